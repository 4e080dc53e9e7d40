//! Numbers for people: thousands separators, bytes, durations.

use std::time::Duration;

/// `50568716` as `50,568,716`.
pub fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in binary units: `3.21 GiB`.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scaled = value as f64;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value} B") } else { format!("{scaled:.2} {}", UNITS[unit]) }
}

/// A weight of guidance, or none.
pub fn guidance(cfg_scale: Option<f64>) -> String {
    cfg_scale.map_or_else(|| "no guidance".to_owned(), |scale| format!("guided by {scale}"))
}

/// A duration as `2 d 03:04:05`, `3:04:05` or `4:05`.
pub fn duration(value: Duration) -> String {
    let seconds = value.as_secs();
    let (days, hours, minutes, seconds) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days} d {hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// `1 file`, `2,000 files`, `3 classes`.
pub fn counted(number: usize, noun: &str) -> String {
    let ending = match (number, noun.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    format!("{} {noun}{ending}", thousands(number as u64))
}

/// Items as a list for a sentence: `a`, `b` or `c`.
pub fn alternatives<S: AsRef<str>>(items: &[S]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("`{}`", item.as_ref())).collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated_from_the_right() {
        for (value, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (50_568_716, "50,568,716"), (863_586_832, "863,586,832")]
        {
            assert_eq!(thousands(value), text);
        }
    }

    #[test]
    fn bytes_choose_the_largest_unit_that_keeps_a_whole_number() {
        for (value, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (3_449_628_736, "3.21 GiB"), (u64::MAX, "16384.00 PiB")]
        {
            assert_eq!(bytes(value), text);
        }
    }

    #[test]
    fn durations_read_like_a_clock() {
        for (seconds, text) in [(5, "0:05"), (65, "1:05"), (3661, "1:01:01"), (176_645, "2 d 01:04:05")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn nouns_are_counted() {
        let text =
            [(1, "file"), (2000, "file"), (1, "class"), (3, "class")].map(|(number, noun)| counted(number, noun));
        assert_eq!(text, ["1 file", "2,000 files", "1 class", "3 classes"]);
    }

    #[test]
    fn alternatives_read_as_a_sentence() {
        assert_eq!(alternatives(&["sd"]), "`sd`");
        assert_eq!(alternatives(&["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
