//! Records as a Markdown table, beside what was published.

use std::fmt::Write as _;

use super::published::{self, COPY_SHARE_TARGET};
use super::record::Record;

/// The table of a run: a row a record, in their order, under what all have in common.
#[must_use]
pub fn markdown(records: &[Record]) -> String {
    let mut text = String::new();
    let mut machines: Vec<String> = Vec::new();
    for record in records {
        let machine = &record.machine;
        let line = format!(
            "{}, driver {}, commit {}, {}; copy {:.2} TB/s, {:.2} T exponentials/s at best",
            machine.card,
            machine.driver,
            machine.commit,
            machine.date,
            machine.copy_bytes_per_s / 1e12,
            machine.exponentials_per_s / 1e12
        );
        if !machines.contains(&line) {
            machines.push(line);
        }
    }
    for machine in machines {
        let _ = writeln!(text, "{machine}");
    }
    text.push_str(
        "\n| op | shape | map | cache | median ms | 10 to 90 % | floor ms | of the floor | existing ms | times as fast | target ms | |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for record in records {
        text.push_str(&row(record));
    }
    text
}

fn row(record: &Record) -> String {
    let ms = |us: f64| milliseconds(us / 1e3);
    let map = record.token_map.map_or("", |map| if map { "yes" } else { "no" });
    let (existing, faster, target, met) = match published::find(&record.op, &record.direction, &record.shape) {
        Some(published) => (
            milliseconds(published.existing_ms),
            format!("{:.1}", 1e3 * published.existing_ms / record.median_us),
            milliseconds(published.target_ms),
            record.median_us <= 1e3 * published.target_ms,
        ),
        None => (
            String::new(),
            String::new(),
            ms(record.floor_us / COPY_SHARE_TARGET),
            record.floor_share >= COPY_SHARE_TARGET,
        ),
    };
    format!(
        "| {} {} | {} | {map} | {} | {} | {} to {} | {} | {:.0} % | {existing} | {faster} | {target} | {} |\n",
        record.op,
        record.direction,
        record.shape,
        record.cache,
        ms(record.median_us),
        ms(record.p10_us),
        ms(record.p90_us),
        ms(record.floor_us),
        100.0 * record.floor_share,
        if met { "met" } else { "missed" },
    )
}

/// Three digits that count, or four.
fn milliseconds(ms: f64) -> String {
    match ms {
        10.0.. => format!("{ms:.1}"),
        1.0.. => format!("{ms:.2}"),
        0.1.. => format!("{ms:.3}"),
        _ => format!("{ms:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    #[test]
    fn rows_say_whether_the_target_is_met() {
        let text = markdown(&[
            record("selective_scan", "forward", "16x4494x3072n16", 1300.0),
            record("selective_scan", "backward", "16x4494x3072n16", 5000.0),
            record("norm_modulate", "forward", "16x4494x1536", 280.0),
        ]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("NVIDIA H200, driver 580.1, commit abc, 2026-11-24; copy 4.00 TB/s"));
        assert_eq!(
            lines[4],
            "| selective_scan forward | 16x4494x3072n16 | yes | cold | 1.30 | 1.29 to 1.31 | 0.250 | 19 % | 8.39 | 6.5 | 1.35 | met |"
        );
        assert!(lines[5].ends_with("| 29.8 | 6.0 | 4.50 | missed |"), "{}", lines[5]);
        assert!(lines[6].ends_with("| 89 % |  |  | 0.294 | met |"), "{}", lines[6]);
        assert_eq!(lines.len(), 7);
    }
}
