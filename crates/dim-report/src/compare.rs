//! Two runs side by side.

use std::fmt::Write as _;

use crate::{
    ReportError,
    record::{Header, Outcome, Point, Run},
};

/// What became of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Beyond the margin, and all but a tenth of the new samples above all but a tenth of the old.
    Slower,
    /// The same, the other way round.
    Faster,
    /// Neither.
    Same,
    /// It was measured once, and now runs out of memory or fails.
    Lost,
}

/// A point that the two runs have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Model, mode, image size and role.
    pub name: String,
    /// Time of one image in the old run, in milliseconds.
    pub old_ms: f64,
    /// The same in the new run; none where the point is lost.
    pub new_ms: Option<f64>,
    /// What became of it.
    pub verdict: Verdict,
}

/// The points that two runs have in common, and those that one of them lacks.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    heading: String,
    margin: f64,
    /// The common points, in the order of the new run.
    pub rows: Vec<Row>,
    /// Names of the points that only the old run measured.
    pub only_old: Vec<String>,
    /// Names of the points that only the new run measured.
    pub only_new: Vec<String>,
}

/// Compares times of one image, point by point; batches may differ. A change must be larger than `margin` (0.05 is 5 %) and than both
/// spreads to count.
///
/// # Errors
/// [`ReportError::DifferentMachines`] for runs of different devices or precisions, unless `force`;
/// [`ReportError::NothingInCommon`].
pub fn compare(old: &Run, new: &Run, margin: f64, force: bool) -> Result<Comparison, ReportError> {
    let machine = |header: &Header| format!("{} in {}", header.device, header.precision);
    let (old_machine, new_machine) = (machine(&old.header), machine(&new.header));
    if !force && old_machine != new_machine {
        return Err(ReportError::DifferentMachines { old: old_machine, new: new_machine });
    }
    let rows: Vec<Row> = new.points.iter().filter_map(|new| row(counterpart(old, new)?, new, margin)).collect();
    if rows.is_empty() {
        return Err(ReportError::NothingInCommon);
    }
    let lacking = |from: &Run, other: &Run| {
        let is_lacking = |point: &&Point| {
            let there = counterpart(other, point);
            // Where the old run failed and the new one measured, the new one has it alone; a loss has a row.
            point.measurement().is_some() && there.is_none_or(|there| there.measurement().is_none())
        };
        let names = from.points.iter().filter(is_lacking).map(name);
        names.filter(|name| rows.iter().all(|row| row.name != *name)).collect()
    };
    let (only_old, only_new) = (lacking(old, new), lacking(new, old));
    let heading = format!("old: {}, {old_machine}; new: {}, {new_machine}", old.header.commit, new.header.commit);
    Ok(Comparison { heading, margin, rows, only_old, only_new })
}

impl Comparison {
    /// Whether a point became slower, or was lost.
    pub fn has_regressions(&self) -> bool {
        self.count(Verdict::Slower) + self.count(Verdict::Lost) > 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }

    /// The comparison as text for a terminal.
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
        let mut text =
            format!("{}\n{:width$}  {:>10}  {:>10}  {:>9}\n", self.heading, "ms per image", "old", "new", "new / old");
        for row in &self.rows {
            let mark = match row.verdict {
                Verdict::Slower => "  SLOWER",
                Verdict::Faster => "  faster",
                Verdict::Lost => "  LOST",
                Verdict::Same => "",
            };
            let three = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.3}"));
            let (new, ratio) = (three(row.new_ms), three(row.new_ms.map(|new| new / row.old_ms)));
            let _ = writeln!(text, "{:width$}  {:>10.3}  {new:>10}  {ratio:>9}{mark}", row.name, row.old_ms);
        }
        for (names, run) in [(&self.only_old, "old"), (&self.only_new, "new")] {
            if !names.is_empty() {
                let _ = writeln!(text, "measured only in the {run} run: {}", names.join(", "));
            }
        }
        let _ = writeln!(
            text,
            "{} compared: {} slower, {} faster, by more than {} % and beyond both spreads (10th to 90th percentile); {} lost",
            self.rows.len(),
            self.count(Verdict::Slower),
            self.count(Verdict::Faster),
            100.0 * self.margin,
            self.count(Verdict::Lost),
        );
        text
    }
}

fn name(point: &Point) -> String {
    format!("{}, {}, {} px, {}", point.model, point.mode.name(), point.image_px, point.role.name())
}

fn counterpart<'a>(run: &'a Run, point: &Point) -> Option<&'a Point> {
    run.points.iter().find(|other| other.same_place(point))
}

/// None unless the old point was measured, and the new one at least tried.
fn row(old: &Point, new: &Point, margin: f64) -> Option<Row> {
    let [old_ms, ..] = old.ms_per_image()?;
    let verdict = match new.outcome {
        Outcome::Skipped => return None,
        Outcome::OutOfMemory | Outcome::Failed => Verdict::Lost,
        Outcome::Measured(_) => verdict(old.ms_per_image()?, new.ms_per_image()?, margin),
    };
    Some(Row { name: name(new), old_ms, new_ms: new.ms_per_image().map(|[median, ..]| median), verdict })
}

fn verdict([old, old_p10, old_p90]: [f64; 3], [new, new_p10, new_p90]: [f64; 3], margin: f64) -> Verdict {
    if new > (1.0 + margin) * old && new_p10 > old_p90 {
        Verdict::Slower
    } else if old > (1.0 + margin) * new && old_p10 > new_p90 {
        Verdict::Faster
    } else {
        Verdict::Same
    }
}

#[cfg(test)]
mod tests;
