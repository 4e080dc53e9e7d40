//! Which curves are drawn of runs.

use maud::{Markup, html};

use super::{LogLine, TrainingRun};
use crate::format;
use crate::page::{
    chart::{Chart, Series},
    look::Look,
};

/// A curve of the log.
struct Curve {
    id: &'static str,
    title: &'static str,
    name: &'static str,
    may_be_logarithmic: bool,
    against: Against,
    value: fn(&LogLine) -> Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Against {
    Images,
    Time,
}

/// A unit of time and its seconds.
type Unit = (&'static str, f64);

const CURVES: [Curve; 6] = [
    Curve {
        id: "loss-images",
        title: "Loss against images",
        name: "loss",
        may_be_logarithmic: true,
        against: Against::Images,
        value: |line| Some(line.loss),
    },
    Curve {
        id: "loss-time",
        title: "Loss against time",
        name: "loss",
        may_be_logarithmic: true,
        against: Against::Time,
        value: |line| Some(line.loss),
    },
    Curve {
        id: "grad-norm",
        title: "Norm of the gradient, before clipping",
        name: "norm of the gradient",
        may_be_logarithmic: true,
        against: Against::Images,
        value: |line| Some(line.grad_norm),
    },
    Curve {
        id: "lr",
        title: "Learning rate",
        name: "learning rate",
        may_be_logarithmic: false,
        against: Against::Images,
        value: |line| Some(line.lr),
    },
    Curve {
        id: "speed",
        title: "Speed",
        name: "images a second",
        may_be_logarithmic: false,
        against: Against::Images,
        value: |line| Some(line.images_per_s),
    },
    Curve {
        id: "memory",
        title: "Peak memory of a GPU",
        name: "GiB",
        may_be_logarithmic: false,
        against: Against::Images,
        value: |line| line.peak_memory_bytes.map(format::to_gib),
    },
];

/// The look of run number `index`.
pub(super) fn look(index: usize) -> Look {
    Look::numbered(index)
}

/// The log's curves, each with a line a run; those of which nothing is known are left out.
pub(super) fn of_logs(runs: &[TrainingRun]) -> Markup {
    let longest = runs.iter().filter_map(|run| run.log.last()).map(|line| line.elapsed_s).fold(0.0, f64::max);
    let unit: Unit = match longest {
        short if short < 600.0 => ("s", 1.0),
        short if short < 3.0 * 3600.0 => ("minutes", 60.0),
        short if short < 72.0 * 3600.0 => ("hours", 3600.0),
        _ => ("days", 86_400.0),
    };
    html! { div.figures { @for curve in &CURVES { (curve.draw(runs, unit)) } } }
}

impl Curve {
    fn draw(&self, runs: &[TrainingRun], (unit_name, unit_s): Unit) -> Markup {
        let x = |line: &LogLine| match self.against {
            Against::Images => line.images_seen as f64,
            Against::Time => line.elapsed_s / unit_s,
        };
        let series = |(number, run): (usize, &TrainingRun)| Series {
            number,
            look: look(number),
            name: run.name.clone(),
            points: run.log.iter().filter_map(|line| Some([x(line), (self.value)(line)?])).collect(),
        };
        let time = format!("time spent training, {unit_name}");
        let chart = Chart {
            id: self.id.to_owned(),
            title: self.title,
            x_name: if self.against == Against::Images { "images seen" } else { &time },
            y_name: self.name,
            may_be_logarithmic: self.may_be_logarithmic,
            series: runs.iter().enumerate().map(series).collect(),
            events: if self.against == Against::Images { resumptions(runs) } else { Vec::new() },
        };
        chart.figure()
    }
}

/// Where the run went on after it had been stopped, if it is the only one.
fn resumptions(runs: &[TrainingRun]) -> Vec<(f64, String)> {
    let [run] = runs else { return Vec::new() };
    let resumed = run.sessions.iter().filter(|session| session.images_seen > 0);
    let text = |at: u64| format!("went on after {} images", format::count(at));
    resumed.map(|session| (session.images_seen as f64, text(session.images_seen))).collect()
}

/// A metric against images seen: a line for each run and weight of guidance.
pub(super) fn of_metric(runs: &[TrainingRun], name: &str, index: usize) -> Markup {
    let mut series = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        for (rank, guided_by) in guidances(run).into_iter().enumerate() {
            let of = run.evaluations.iter().filter(|found| found.guided_by == guided_by);
            let value = |found: &super::Evaluated| {
                let (_, value) = found.scores.iter().find(|(known, _)| known == name)?;
                Some([found.images_seen as f64, *value])
            };
            let name = format!("{}, {}", run.name, format::guidance(guided_by));
            series.push(Series {
                number,
                look: look(number).relative(rank),
                name,
                points: of.filter_map(value).collect(),
            });
        }
    }
    let title = format!("{name} against images seen");
    let chart = Chart {
        id: format!("metric-{index}"),
        title: &title,
        x_name: "images seen",
        y_name: name,
        may_be_logarithmic: false,
        series,
        events: Vec::new(),
    };
    chart.figure()
}

/// The weights of guidance at which a run was judged, in their order.
pub(super) fn guidances(run: &TrainingRun) -> Vec<Option<f64>> {
    let mut found = Vec::new();
    for evaluation in &run.evaluations {
        if !found.contains(&evaluation.guided_by) {
            found.push(evaluation.guided_by);
        }
    }
    found
}
