//! Two runs side by side.

use std::fmt::Write as _;

use super::run_file::Timing;

/// What became of a timing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Beyond the margin, and all but a tenth of the new samples above all but a tenth of the old.
    Slower,
    /// The same, the other way round.
    Faster,
    Same,
}

#[derive(Debug)]
struct Row {
    name: String,
    old_us: f64,
    new_us: f64,
    verdict: Verdict,
}

/// The timings that two runs have in common, and those that one of them lacks.
#[derive(Debug)]
pub(super) struct Comparison {
    heading: String,
    margin: f64,
    rows: Vec<Row>,
    only_old: Vec<String>,
    only_new: Vec<String>,
}

impl Comparison {
    /// Compares by name. Runs of different cards say nothing about the code, and are refused unless `force`.
    pub(super) fn new(old: &[Timing], new: &[Timing], margin: f64, force: bool) -> anyhow::Result<Self> {
        let (old_cards, new_cards) = (distinct(old, |timing| &timing.card), distinct(new, |timing| &timing.card));
        anyhow::ensure!(
            force || old_cards == new_cards,
            "the old run is of {old_cards}, the new one of {new_cards}: their times do not compare; --force compares them all the same"
        );
        let find = |timings: &[Timing], name: &str| timings.iter().find(|timing| timing.name == name).cloned();
        let rows: Vec<Row> = new
            .iter()
            .filter_map(|new| Some((find(old, &new.name)?, new)))
            .map(|(old, new)| Row {
                name: new.name.clone(),
                old_us: old.median_us,
                new_us: new.median_us,
                verdict: verdict(&old, new, margin),
            })
            .collect();
        anyhow::ensure!(!rows.is_empty(), "the two runs have no timing in common");
        let lacking = |from: &[Timing], other: &[Timing]| {
            let names = from.iter().map(|timing| timing.name.clone());
            names.filter(|name| find(other, name).is_none()).collect()
        };
        let commit = |timings: &[Timing]| distinct(timings, |timing| &timing.commit);
        let heading = format!("old: {}, {old_cards}; new: {}, {new_cards}", commit(old), commit(new));
        Ok(Self { heading, margin, rows, only_old: lacking(old, new), only_new: lacking(new, old) })
    }

    pub(super) fn has_regressions(&self) -> bool {
        self.count(Verdict::Slower) > 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }

    pub(super) fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let mut text =
            format!("{}\n{:width$}  {:>10}  {:>10}  {:>9}\n", self.heading, "", "old us", "new us", "new / old");
        for row in &self.rows {
            let mark = match row.verdict {
                Verdict::Slower => "  SLOWER",
                Verdict::Faster => "  faster",
                Verdict::Same => "",
            };
            let ratio = row.new_us / row.old_us;
            let _ =
                writeln!(text, "{:width$}  {:>10.1}  {:>10.1}  {ratio:>9.3}{mark}", row.name, row.old_us, row.new_us);
        }
        for (names, run) in [(&self.only_old, "old"), (&self.only_new, "new")] {
            if !names.is_empty() {
                let _ = writeln!(text, "only in the {run} run: {}", names.join(", "));
            }
        }
        let _ = writeln!(
            text,
            "{} compared: {} slower, {} faster, by more than {} % and beyond both spreads (10th to 90th percentile)",
            self.rows.len(),
            self.count(Verdict::Slower),
            self.count(Verdict::Faster),
            100.0 * self.margin
        );
        text
    }
}

fn verdict(old: &Timing, new: &Timing, margin: f64) -> Verdict {
    if new.median_us > (1.0 + margin) * old.median_us && new.p10_us > old.p90_us {
        Verdict::Slower
    } else if old.median_us > (1.0 + margin) * new.median_us && old.p10_us > new.p90_us {
        Verdict::Faster
    } else {
        Verdict::Same
    }
}

/// All different values, in order.
fn distinct(timings: &[Timing], part: impl Fn(&Timing) -> &str) -> String {
    let mut values: Vec<&str> = timings.iter().map(part).collect();
    values.sort_unstable();
    values.dedup();
    values.join(" and ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A timing whose spread is so many hundredths to either side.
    fn timing(name: &str, median_us: f64, spread: f64) -> Timing {
        Timing {
            name: name.into(),
            median_us,
            p10_us: median_us * (1.0 - spread),
            p90_us: median_us * (1.0 + spread),
            card: "NVIDIA H200".into(),
            commit: "abc".into(),
        }
    }

    fn compare(old: &[Timing], new: &[Timing]) -> Comparison {
        Comparison::new(old, new, 0.05, false).unwrap()
    }

    #[test]
    fn change_must_pass_margin_and_both_spreads() {
        for (old, new, spread, verdict) in [
            (100.0, 104.0, 0.001, Verdict::Same),
            (100.0, 106.0, 0.001, Verdict::Slower),
            (100.0, 106.0, 0.04, Verdict::Same),
            (106.0, 100.0, 0.001, Verdict::Faster),
            (106.0, 100.0, 0.04, Verdict::Same),
        ] {
            let comparison = compare(&[timing("a", old, spread)], &[timing("a", new, spread)]);
            assert_eq!(comparison.rows[0].verdict, verdict, "{old} to {new} ± {spread}");
            assert_eq!(comparison.has_regressions(), verdict == Verdict::Slower);
        }
    }

    #[test]
    fn table_shows_every_change_and_what_is_missing() {
        let old = [timing("a", 100.0, 0.01), timing("bb", 100.0, 0.01), timing("gone", 1.0, 0.0)];
        let new = [timing("a", 150.0, 0.01), timing("bb", 50.0, 0.01), timing("fresh", 1.0, 0.0)];
        let table = compare(&old, &new).table();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[2], "a        100.0       150.0      1.500  SLOWER");
        assert_eq!(lines[3], "bb       100.0        50.0      0.500  faster");
        assert_eq!(lines[4], "only in the old run: gone");
        assert_eq!(lines[5], "only in the new run: fresh");
        assert!(lines[6].starts_with("2 compared: 1 slower, 1 faster, by more than 5 %"), "{}", lines[6]);
    }

    #[test]
    fn other_cards_are_refused_unless_forced() {
        let old = [timing("a", 1.0, 0.0)];
        let new = [Timing { card: "NVIDIA H100".into(), ..timing("a", 1.0, 0.0) }];
        let error = Comparison::new(&old, &new, 0.05, false).unwrap_err().to_string();
        assert!(error.starts_with("the old run is of NVIDIA H200, the new one of NVIDIA H100"), "{error}");
        assert!(Comparison::new(&old, &new, 0.05, true).is_ok());
    }

    #[test]
    fn runs_without_a_common_timing_do_not_compare() {
        let error = Comparison::new(&[timing("a", 1.0, 0.0)], &[timing("b", 1.0, 0.0)], 0.05, false).unwrap_err();
        assert!(error.to_string().contains("no timing in common"));
    }
}
