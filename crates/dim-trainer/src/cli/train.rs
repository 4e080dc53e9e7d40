//! `train` and `train-autoencoder`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::ComputeArgs;

/// `dim-trainer train`
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// The configuration; with --resume, the run's own if left out.
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    pub config: Option<PathBuf>,
    /// Set a key of the configuration, such as train.batch_size=64; may be given more than once.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The run's folder; by default runs/ and the name of the configuration.
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    pub run: Option<PathBuf>,
    /// Go on with the run in the folder: from its newest checkpoint, from the newest that reads well, or from the newest if there is any.
    #[arg(long, value_name = "WHICH", num_args = 0..=1, require_equals = true, default_missing_value = "newest")]
    pub resume: Option<Which>,
    /// With --resume: go on although the configuration differs from the checkpoint's.
    #[arg(long, requires = "resume")]
    pub accept_changes: bool,
    /// Replace the run in the folder.
    #[arg(long, conflicts_with = "resume")]
    pub overwrite: bool,
    /// End the run after this time even if images are left; --resume goes on with them.
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
    pub time_limit: Option<Duration>,
    /// Record where the time of some steps goes, for Chrome's trace viewer, and say how much of it the GPU is idle and how much of the communication is hidden.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// With --trace: which steps, counted from 1 in this session, with what lies between them. In the first ones much is chosen and cached.
    #[arg(long, value_name = "FIRST-LAST", value_parser = steps, default_value = "10-10", requires = "trace")]
    pub trace_steps: RangeInclusive<u64>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub compute: ComputeArgs,
}

/// Which checkpoint to go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// The newest; an error if it does not read.
    Newest,
    /// The newest that reads well; newer ones are set aside.
    Older,
    /// The newest; a run that has no checkpoint yet begins. For jobs that a cluster starts again by itself.
    IfAny,
}

/// Minutes as the command line gives them, such as 11 or 0.5.
fn minutes(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a number of minutes above 0, got `{text}`");
    let minutes: f64 = text.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(minutes * 60.0).ok().filter(|limit| !limit.is_zero()).ok_or_else(wrong)
}

/// Steps as the command line gives them, such as 30-36.
fn steps(text: &str) -> Result<RangeInclusive<u64>, String> {
    let range = text.split_once('-').and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    range.filter(|range| *range.start() > 0 && !range.is_empty()).ok_or_else(|| {
        format!("expected two numbers of steps, the first at least 1 and the last no less than it, such as 30-36, got `{text}`")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    #[test]
    fn resume_takes_an_optional_choice() {
        let parse = |arguments: &[&str]| match Cli::try_parse_from(
            [&["dim-trainer", "train", "--run", "r"], arguments].concat(),
        ) {
            Ok(Cli { command: Command::Train(train) }) => train.resume,
            other => panic!("{other:?}"),
        };
        assert_eq!(parse(&["--resume"]), Some(Which::Newest));
        assert_eq!(parse(&["--resume=older"]), Some(Which::Older));
        assert_eq!(parse(&["--resume=if-any"]), Some(Which::IfAny));
        assert_eq!(parse(&["--config", "c"]), None);
    }

    #[test]
    fn steps_are_a_range_that_is_not_empty() {
        assert_eq!(steps("30-36"), Ok(30..=36));
        assert_eq!(steps("1-1"), Ok(1..=1));
        for wrong in ["0-3", "4-3", "7", "a-b", "-1-2", ""] {
            assert!(steps(wrong).unwrap_err().contains(&format!("got `{wrong}`")), "{wrong}");
        }
    }
}
