//! Steps that are named while they run, timed, and summed up in a table.

use std::time::{Duration, Instant};

/// How a step ended, as the table shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// Not done, and why that is all right.
    Skipped(String),
}

#[derive(Debug, Default)]
pub(crate) struct Steps {
    rows: Vec<(String, Duration, Outcome)>,
}

impl Steps {
    /// Runs a step under a heading. An error is kept in the table and handed back.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> anyhow::Result<Outcome>) -> anyhow::Result<()> {
        println!("\n── {name}");
        let start = Instant::now();
        let result = step();
        let outcome = match &result {
            Ok(outcome) => outcome.clone(),
            Err(_) => Outcome::Failed,
        };
        if let Outcome::Skipped(why) = &outcome {
            println!("skipped: {why}");
        }
        self.rows.push((name.to_owned(), start.elapsed(), outcome));
        result.map(|_| ())
    }

    pub(crate) fn print(&self, title: &str) {
        println!("\n── {title}\n{}", self.table());
    }

    fn table(&self) -> String {
        let width = self.rows.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
        let line = |name: &str, elapsed: Duration, outcome: &str| {
            format!("{name:width$}  {:>8}  {outcome}\n", seconds(elapsed))
        };
        let rows = self.rows.iter().map(|(name, elapsed, outcome)| match outcome {
            Outcome::Passed => line(name, *elapsed, "passed"),
            Outcome::Failed => line(name, *elapsed, "FAILED"),
            Outcome::Skipped(why) => line(name, *elapsed, &format!("skipped: {why}")),
        });
        let total = self.rows.iter().map(|(_, elapsed, _)| elapsed).sum();
        rows.chain([line("", total, "in all")]).collect()
    }
}

/// A duration for people: `9.4 s`, `12:05`.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole < 60 { format!("{:.1} s", duration.as_secs_f64()) } else { format!("{}:{:02}", whole / 60, whole % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_holds_every_step_that_began() {
        let mut steps = Steps::default();
        assert!(steps.run("format", || Ok(Outcome::Passed)).is_ok());
        assert!(steps.run("deny", || Ok(Outcome::Skipped("not installed".into()))).is_ok());
        assert!(steps.run("tests", || anyhow::bail!("no")).is_err());
        let table = steps.table();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0], "format     0.0 s  passed");
        assert_eq!(lines[1], "deny       0.0 s  skipped: not installed");
        assert_eq!(lines[2], "tests      0.0 s  FAILED");
        assert!(lines[3].ends_with("in all"));
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!(seconds(Duration::from_millis(9_449)), "9.4 s");
        assert_eq!(seconds(Duration::from_secs(725)), "12:05");
    }
}
