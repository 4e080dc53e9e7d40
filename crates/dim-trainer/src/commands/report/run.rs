//! The folder of a run as records: what `dim-report` draws.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use dim_report::machine::minute;
use dim_report::training::{Evaluated, Picture, Session, State, StoredFile, TrainingRun};

use super::description::{Description, describe};
use crate::error::TrainerError;
use crate::files;
use crate::format::{counted, thousands};
use crate::run_folder::RunFolder;
use crate::train::sessions::{self, Begun, EndReason, SessionLine};
use crate::train::{JsonLog, checkpoint};

/// Pictures on the page of one run: each is some tens of kilobytes.
const PICTURES: usize = 12;

/// All of a run that its page shows.
///
/// # Errors
/// [`TrainerError::Unsupported`] for a folder that is no run's, or a run that has not logged anything; what is wrong with its files.
pub(super) fn read(run: &RunFolder, name: String) -> Result<TrainingRun, TrainerError> {
    let lacks = |what: String| {
        let problem = format!("expected the folder of a run of `train` or `train-autoencoder`, {what}");
        TrainerError::Unsupported(format!("{}: {problem}", run.path().display()))
    };
    for (file, what) in [(run.config(), "config.toml"), (run.log(), "log.jsonl")] {
        if !file.is_file() {
            return Err(lacks(format!("which has a {what}; got one without")));
        }
    }
    let (records, evaluations, is_whole) = JsonLog::read(&run.log())?;
    let Some(last) = records.last() else {
        return Err(lacks(
            "with a step in its log.jsonl; got an empty log: the run has only begun, or failed at once".to_owned(),
        ));
    };
    let Description { subject, facts, images, preset, settings, text } = describe(&run.config())?;
    let sessions = sessions::read(&run.sessions())?;
    let all_seen = last.images_seen >= images;
    let state = match sessions.last() {
        // Either may be missing in a copy of a run.
        _ if all_seen && run.snapshot(last.images_seen).exists() => State::Finished,
        Some(SessionLine::Ended(ended)) if all_seen && ended.reason == EndReason::Finished => State::Finished,
        Some(SessionLine::Ended(ended)) if ended.images_seen == last.images_seen => {
            State::Stopped(match ended.reason {
                EndReason::TimeIsUp => "the time was up".to_owned(),
                EndReason::Interrupted => "somebody asked it to".to_owned(),
                EndReason::Finished => "all images of an earlier setting".to_owned(),
            })
        }
        _ => State::Open,
    };
    let mut notes = Vec::new();
    if !is_whole {
        notes.push("The last line of the log is not whole: the run is writing it, or was killed.".to_owned());
    }
    let written = fs::metadata(run.log()).and_then(|about| about.modified());
    let pictures = run.all_samples()?;
    let begun = |line: &SessionLine| match line {
        SessionLine::Begun(begun) => Some(session(begun)),
        SessionLine::Ended(_) => None,
    };
    Ok(TrainingRun {
        name,
        subject,
        facts,
        images,
        state,
        last_written: written.map_or_else(|_| "not known".to_owned(), minute),
        notes,
        evaluations: evaluations.iter().map(evaluated).collect(),
        log: records,
        pictures_in_all: pictures.len(),
        pictures: evenly(&pictures, PICTURES).into_iter().map(picture).collect::<Result<_, _>>()?,
        sessions: sessions.iter().filter_map(begun).collect(),
        preset,
        settings,
        config: text,
        files: stored(run)?,
    })
}

fn evaluated(found: &crate::train::Evaluated) -> Evaluated {
    let of = &found.evaluation;
    Evaluated {
        images_seen: found.images_seen,
        guided_by: of.guided.then_some(of.cfg_scale),
        samples: of.samples,
        scores: of.scores.named(&of.features),
    }
}

fn picture((images_seen, path): &(u64, PathBuf)) -> Result<Picture, TrainerError> {
    let png = fs::read(path).map_err(|source| TrainerError::read(path, source))?;
    Ok(Picture { images_seen: *images_seen, png })
}

/// At most so many of them, the first and the last among them, as evenly as can be.
fn evenly<T>(all: &[T], most: usize) -> Vec<&T> {
    if all.len() <= most {
        return all.iter().collect();
    }
    (0..most).filter_map(|number| all.get(number * (all.len() - 1) / (most - 1))).collect()
}

fn session(begun: &Begun) -> Session {
    let mut facts = vec![("program".to_owned(), begun.program.clone())];
    let mut add = |name: &str, value: String| facts.push((name.to_owned(), value));
    if let Some(commit) = &begun.commit {
        add("commit", commit.clone());
    }
    add("device", begun.card.as_ref().map_or_else(|| begun.device.clone(), |card| format!("{}, {card}", begun.device)));
    add("processor", begun.processor.clone());
    add("precision", begun.precision.clone());
    let of_each = if begun.processes > 1 { " of each" } else { "" };
    add("processes", format!("{}, {}{of_each}", counted(begun.processes, "process"), counted(begun.threads, "thread")));
    add("data", format!("{} images of {}", thousands(begun.images_found), counted(begun.classes, "class")));
    let mut given = begun.config.clone().unwrap_or_else(|| "the run's own".to_owned());
    begun.set.iter().for_each(|setting| given.push_str(&format!(", {setting}")));
    add("configuration", given);
    Session { started: minute(UNIX_EPOCH + Duration::from_secs(begun.begun_s)), images_seen: begun.images_seen, facts }
}

/// What the run left, by kind; of a checkpoint in parts all parts as one.
fn stored(run: &RunFolder) -> Result<Vec<StoredFile>, TrainerError> {
    let of_checkpoints = files::list(&run.checkpoints())?;
    let length = |path: &Path| fs::metadata(path).map_or(0, |about| about.len());
    let stem =
        |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().split('.').next().map(str::to_owned);
    let mut found = Vec::new();
    let mut add = |kind, path: &Path, images_seen, bytes| {
        let path = path.strip_prefix(run.path()).unwrap_or(path).display().to_string();
        found.push(StoredFile { kind, path, images_seen, bytes });
    };
    for path in checkpoint::list(run)? {
        let parts = of_checkpoints.iter().filter(|part| stem(part) == stem(&path));
        let images_seen = stem(&path).and_then(|stem| stem.parse().ok());
        add("checkpoint", &path, images_seen, parts.map(|part| length(part)).sum());
    }
    for (kind, all) in [("snapshot", run.all_snapshots()?), ("averages of other widths", run.all_ema_snapshots()?)] {
        for (images_seen, path) in all {
            add(kind, &path, Some(images_seen), length(&path));
        }
    }
    let best = run.best_snapshot();
    if best.exists() {
        add("snapshot of the lowest distance", &best, None, length(&best));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_chosen_evenly_with_the_first_and_the_last() {
        let all: Vec<usize> = (0..40).collect();
        assert_eq!(evenly(&all[..3], 12), [&0, &1, &2]);
        let chosen = evenly(&all, 12);
        assert_eq!((chosen.len(), chosen[0], chosen[11]), (12, &0, &39));
        assert!(chosen.windows(2).all(|pair| (3..=4).contains(&(pair[1] - pair[0]))), "{chosen:?}");
    }
}
