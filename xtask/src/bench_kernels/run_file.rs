//! Reads what the benchmarks keep: lines of JSON, written by package dim-bench, of which a comparison needs a part.

use serde_json::Value;

/// One timing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Timing {
    /// Op, direction, shape, dtype, token map and cache: what two runs are matched by.
    pub(super) name: String,
    pub(super) median_us: f64,
    pub(super) p10_us: f64,
    pub(super) p90_us: f64,
    pub(super) card: String,
    pub(super) commit: String,
}

/// Parses a whole file. Empty lines are passed over; an error names the line.
pub(super) fn parse(text: &str) -> Result<Vec<Timing>, String> {
    let mut timings: Vec<Timing> = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let timing = parse_line(line).map_err(|error| format!("line {}: {error}", index + 1))?;
        if timings.iter().any(|known| known.name == timing.name) {
            return Err(format!("line {}: {} was timed before", index + 1, timing.name));
        }
        timings.push(timing);
    }
    if timings.is_empty() { Err("there is no timing in it".to_owned()) } else { Ok(timings) }
}

fn parse_line(line: &str) -> Result<Timing, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).ok_or_else(|| format!("`{key}` must be a text"));
    let microseconds = |key: &str| {
        let number = value.get(key).and_then(Value::as_f64).filter(|number| *number > 0.0);
        number.ok_or_else(|| format!("`{key}` must be a number above 0"))
    };
    let map = match value.get("token_map") {
        Some(Value::Bool(true)) => "/map",
        Some(Value::Bool(false)) => "/plain",
        Some(Value::Null) => "",
        _ => return Err("`token_map` must be true, false or null".to_owned()),
    };
    let parts = [text("op")?, text("direction")?, text("shape")?, text("dtype")?].join("/");
    let (median_us, p10_us, p90_us) = (microseconds("median_us")?, microseconds("p10_us")?, microseconds("p90_us")?);
    if !(p10_us <= median_us && median_us <= p90_us) {
        return Err(format!("{median_us} is not between {p10_us} and {p90_us}"));
    }
    Ok(Timing {
        name: format!("{parts}{map} {}", text("cache")?),
        median_us,
        p10_us,
        p90_us,
        card: text("card")?.to_owned(),
        commit: text("commit")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As package dim-bench writes it.
    const LINE: &str = r#"{"op":"selective_scan","direction":"forward","shape":"16x4494x3072n16","dtype":"bf16","token_map":true,"cache":"cold","buffer_sets":1,"samples":40,"calls":1,"median_us":1300.5,"p10_us":1299.0,"p90_us":1310.0,"bytes":1.7e9,"exponentials":4.4e9,"floor_us":1056.0,"floor_share":0.81,"card":"NVIDIA H200","driver":"580.1","copy_bytes_per_s":4.2e12,"exponentials_per_s":4.1e12,"commit":"abc","date":"2026-11-24"}"#;

    #[test]
    fn timings_are_named_by_what_tells_them_apart() {
        let other = LINE.replace("true", "null").replace("cold", "warm");
        let timings = parse(&format!("{LINE}\n\n{other}\n")).unwrap();
        assert_eq!(timings[0].name, "selective_scan/forward/16x4494x3072n16/bf16/map cold");
        assert_eq!(timings[1].name, "selective_scan/forward/16x4494x3072n16/bf16 warm");
        assert_eq!((timings[0].median_us, timings[0].card.as_str()), (1300.5, "NVIDIA H200"));
    }

    #[test]
    fn errors_name_the_line_and_the_key() {
        let error = |second: &str| parse(&format!("{LINE}\n{second}")).unwrap_err();
        assert!(error("garbage").starts_with("line 2: not JSON: "));
        assert!(error(&LINE[..100]).starts_with("line 2: not JSON: "));
        assert_eq!(error("{}"), "line 2: `token_map` must be true, false or null");
        assert_eq!(error(&LINE.replace("1300.5", "\"fast\"")), "line 2: `median_us` must be a number above 0");
        assert_eq!(error(&LINE.replace("1300.5", "-1")), "line 2: `median_us` must be a number above 0");
        assert_eq!(error(&LINE.replace("1310.0", "1300.0")), "line 2: 1300.5 is not between 1299 and 1300");
        assert!(error(LINE).ends_with("was timed before"));
        assert_eq!(parse("\n").unwrap_err(), "there is no timing in it");
    }
}
