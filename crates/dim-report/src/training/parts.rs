//! The tables of runs: how far they are, how they were trained, what they left.

use super::{Session, State, TrainingRun};
use crate::format::{self, NOTHING};
use crate::table::Table;

/// Lines of the log between which the speed of now is taken.
const RECENT: usize = 20;

fn table(title: &str, header: &[&str], rows: Vec<Vec<String>>) -> Table {
    Table { title: title.to_owned(), header: header.iter().map(|name| (*name).to_owned()).collect(), rows }
}

/// How far a run is, as it is read in a sentence.
pub(super) fn progress(run: &TrainingRun) -> String {
    let seen = run.log.last().map_or(0, |line| line.images_seen);
    let (shown, all) = (format::count(seen), format::count(run.images));
    match &run.state {
        State::Finished => format!("finished after {shown} images"),
        State::Stopped(why) => format!("stopped after {shown} of {all} images ({why})"),
        State::Open if seen >= run.images => {
            format!("all {all} images seen, but neither a snapshot of the end nor a record of it is here")
        }
        State::Open => format!("not finished: {shown} of {all} images seen"),
    }
}

/// How far the runs are: a column for each.
pub(super) fn states(runs: &[TrainingRun]) -> Table {
    let of = |run: &TrainingRun| -> Option<[String; 10]> {
        let last = run.log.last()?;
        let best = run.log.iter().map(|line| line.loss).fold(f64::INFINITY, f64::min);
        let memory = run.log.iter().filter_map(|line| line.peak_memory_bytes).max();
        let speed = recent_speed(run);
        let left = run.images.saturating_sub(last.images_seen);
        let time_left = speed.filter(|_| left > 0).map(|speed| duration(left as f64 / speed));
        let or_nothing = |text: Option<String>| text.unwrap_or_else(|| NOTHING.to_owned());
        Some([
            format!("{} of {}", format::count(last.images_seen), format::count(run.images)),
            format::count(last.step),
            duration(last.elapsed_s),
            or_nothing(time_left),
            format::number(last.loss),
            format::number(best),
            or_nothing(speed.map(format::number)),
            format::number(last.images_seen as f64 / last.elapsed_s),
            or_nothing(memory.map(format::gib)),
            run.last_written.clone(),
        ])
    };
    let names = [
        "images seen",
        "steps",
        "time spent",
        "time left",
        "last loss",
        "lowest loss",
        "images/s lately",
        "images/s over all",
        "peak memory of a GPU",
        "log written, UTC",
    ];
    let columns: Vec<_> = runs.iter().map(of).collect();
    let cell = |column: &Option<[String; 10]>, row: usize| {
        column.as_ref().map_or_else(|| NOTHING.to_owned(), |values| values[row].clone())
    };
    let row = |(index, name): (usize, &&str)| {
        [(*name).to_owned()].into_iter().chain(columns.iter().map(|column| cell(column, index))).collect()
    };
    let mut all = table("How far they are", &[""], names.iter().enumerate().map(row).collect());
    all.header.extend(runs.iter().map(|run| run.name.clone()));
    all
}

/// Images a second between the last lines of the log, with all that is done beside training: pictures, evaluation, checkpoints.
fn recent_speed(run: &TrainingRun) -> Option<f64> {
    let recent = &run.log[run.log.len().saturating_sub(RECENT)..];
    let (first, last) = (recent.first()?, recent.last()?);
    let (images, seconds) = match recent.len() {
        1 => (last.images_seen, last.elapsed_s),
        _ => (last.images_seen.saturating_sub(first.images_seen), last.elapsed_s - first.elapsed_s),
    };
    (images > 0 && seconds > 0.0).then(|| images as f64 / seconds)
}

/// `2 d 03:04:05`, `3:04:05` or `4:05`.
fn duration(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours, minutes, seconds) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days} d {hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// Names of all metrics, in their order.
pub(super) fn metrics(runs: &[TrainingRun]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in runs.iter().flat_map(|run| &run.evaluations).flat_map(|found| &found.scores) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Every metric that was measured.
pub(super) fn evaluations(runs: &[TrainingRun], metrics: &[String]) -> Table {
    let mut rows = Vec::new();
    for run in runs {
        for found in &run.evaluations {
            let mut row = vec![
                run.name.clone(),
                format::count(found.images_seen),
                format::guidance(found.guided_by),
                format::count(found.samples),
            ];
            let value = |name: &String| found.scores.iter().find(|(known, _)| known == name);
            row.extend(
                metrics.iter().map(|name| value(name).map_or(NOTHING.to_owned(), |(_, value)| format!("{value:.4}"))),
            );
            rows.push(row);
        }
    }
    let mut all = table("All measurements", &["run", "images seen", "guidance", "samples"], rows);
    all.header.extend(metrics.iter().cloned());
    if runs.len() == 1 {
        // It is the page's.
        all.rows.iter_mut().chain([&mut all.header]).for_each(|row| drop(row.remove(0)));
    }
    all
}

/// What the times that training began or went on have in common, and a table of them with what they have not.
pub(super) fn sessions(run: &TrainingRun) -> (Vec<(&str, &str)>, Table) {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in run.sessions.iter().flat_map(|session| &session.facts) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let value = |session: &'_ Session, name: &str| {
        session.facts.iter().position(|(known, _)| known == name).map(|place| session.facts[place].1.clone())
    };
    let is_common = |name: &&str| run.sessions.windows(2).all(|pair| value(&pair[0], name) == value(&pair[1], name));
    let (common, own): (Vec<&str>, Vec<&str>) = names.into_iter().partition(is_common);
    let row = |session: &Session| {
        let mut row = vec![session.started.clone(), format::count(session.images_seen)];
        row.extend(own.iter().map(|name| value(session, name).unwrap_or_else(|| NOTHING.to_owned())));
        row
    };
    let rows = run.sessions.iter().map(row).collect();
    let mut all = table("Each time that training began or went on", &["begun, UTC", "after images"], rows);
    all.header.extend(own.iter().map(|name| (*name).to_owned()));
    let facts = run.sessions.first().into_iter().flat_map(|session| &session.facts);
    let facts = facts.filter(|(name, _)| common.contains(&name.as_str()));
    (facts.map(|(name, value)| (name.as_str(), value.as_str())).collect(), all)
}

/// Keys in which the runs differ.
pub(super) fn differences(runs: &[TrainingRun]) -> Option<Table> {
    let mut keys: Vec<&String> = runs.iter().flat_map(|run| &run.settings).map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    let value = |run: &TrainingRun, key: &String| {
        let found = run.settings.iter().find(|(known, _)| known == key);
        found.map_or_else(|| NOTHING.to_owned(), |(_, value)| value.clone())
    };
    let row = |key: &String| {
        let values: Vec<String> = runs.iter().map(|run| value(run, key)).collect();
        let differ = values.iter().any(|value| *value != values[0]);
        differ.then(|| [key.clone()].into_iter().chain(values).collect())
    };
    let rows: Vec<Vec<String>> = keys.into_iter().filter_map(row).collect();
    let mut all = table("Where the configurations differ", &["key"], rows);
    all.header.extend(runs.iter().map(|run| run.name.clone()));
    (runs.len() > 1).then_some(all)
}

/// How the network differs from a preset; nothing to tell if it does not.
pub(super) fn of_preset(run: &TrainingRun) -> Option<Table> {
    let preset = run.preset.as_ref().filter(|preset| !preset.differences.is_empty())?;
    let rows = preset.differences.iter().map(|row| row.to_vec()).collect();
    let title = format!("Where the network differs from {}", preset.name);
    Some(table(&title, &["key", "preset", "here"], rows))
}

/// What the run left.
pub(super) fn files(run: &TrainingRun) -> Table {
    let row = |file: &super::StoredFile| {
        vec![
            file.path.clone(),
            file.kind.to_owned(),
            file.images_seen.map_or_else(|| NOTHING.to_owned(), format::count),
            bytes(file.bytes),
        ]
    };
    table(
        "Checkpoints to go on from, snapshots to draw with",
        &["file", "what", "images seen", "size"],
        run.files.iter().map(row).collect(),
    )
}

fn bytes(value: u64) -> String {
    let value = value as f64;
    let (scaled, unit) = match value {
        value if value >= 1_073_741_824.0 => (value / 1_073_741_824.0, "GiB"),
        value if value >= 1_048_576.0 => (value / 1_048_576.0, "MiB"),
        value => (value / 1024.0, "KiB"),
    };
    format!("{} {unit}", format::number(scaled))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::LogLine;
    use super::*;

    /// A line of the log after each of these images and seconds.
    fn run(lines: &[(u64, f64)]) -> TrainingRun {
        let line = |&(images_seen, elapsed_s): &(u64, f64)| LogLine { images_seen, elapsed_s, ..LogLine::default() };
        TrainingRun {
            name: "a".to_owned(),
            images: 3000,
            log: lines.iter().map(line).collect(),
            ..TrainingRun::default()
        }
    }

    #[test]
    fn states_say_how_far_and_how_long() {
        let mut of = run(&[(100, 0.5), (200, 2.0), (1000, 10.0)]);
        assert_eq!(progress(&of), "not finished: 1,000 of 3,000 images seen");
        let table = states(std::slice::from_ref(&of));
        let value = |name: &str| table.rows.iter().find(|row| row[0] == name).unwrap()[1].as_str();
        assert_eq!((value("images seen"), value("time spent")), ("1,000 of 3,000", "0:10"));
        assert_eq!((value("time left"), value("images/s lately"), value("images/s over all")), ("0:21", "94.7", "100"));
        of.images = 1000;
        assert!(progress(&of).starts_with("all 1,000 images seen, but neither a snapshot"), "{}", progress(&of));
        of.images = 3000;
        of.state = State::Stopped("the time was up".to_owned());
        assert_eq!(progress(&of), "stopped after 1,000 of 3,000 images (the time was up)");
        of.state = State::Finished;
        assert_eq!(progress(&of), "finished after 1,000 images");
    }

    #[test]
    fn sittings_are_told_apart_by_what_differs() {
        let session = |images_seen, device: &str| {
            let facts = [("program", "p"), ("device", device)].map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec();
            Session { started: "now".to_owned(), images_seen, facts }
        };
        let mut of = run(&[(1, 1.0)]);
        of.sessions = vec![session(0, "cpu"), session(2000, "cuda:0")];
        let (common, table) = sessions(&of);
        assert_eq!(common, [("program", "p")]);
        assert_eq!(table.header, ["begun, UTC", "after images", "device"]);
        assert_eq!(table.rows, [["now", "0", "cpu"], ["now", "2,000", "cuda:0"]]);
    }

    #[test]
    fn runs_are_compared_in_what_differs_alone() {
        let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut runs = [run(&[(1, 1.0)]), run(&[(1, 1.0)])];
        assert_eq!(differences(&runs).unwrap().rows, Vec::<Vec<String>>::new());
        runs[0].settings = vec![setting("a", "1"), setting("b", "2")];
        runs[1].settings = vec![setting("a", "1"), setting("b", "3"), setting("c", "4")];
        assert_eq!(differences(&runs).unwrap().rows, [["b", "2", "3"], ["c", NOTHING, "4"]]);
        assert!(differences(&runs[..1]).is_none());
    }

    #[test]
    fn durations_and_sizes_are_short() {
        assert_eq!([5.0, 3661.0, 176_645.9].map(duration), ["0:05", "1:01:01", "2 d 01:04:05"]);
        assert_eq!([512, 5 << 20, 3_449_628_736].map(bytes), ["0.500 KiB", "5.00 MiB", "3.21 GiB"]);
    }
}
