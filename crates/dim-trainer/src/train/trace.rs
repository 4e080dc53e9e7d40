//! Where the time of some training steps goes: a trace for Chrome's viewer (`chrome://tracing`, `ui.perfetto.dev`), and how much of the
//! communication is hidden behind computation.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use dim_torch::{Event, Profiler};
use tch::Device;

use crate::error::TrainerError;
use crate::files;

/// How the names of kernels that carry gradients and weights between GPUs begin.
const COMMUNICATION: &str = "nccl";

/// The recording of some steps of a session, with what lies between them.
pub struct Trace {
    path: PathBuf,
    /// Which, counted from 1 in this session.
    steps: RangeInclusive<u64>,
    running: Option<Profiler>,
}

impl Trace {
    /// Of these steps, to be written to `path`.
    #[must_use]
    pub fn new(path: PathBuf, steps: RangeInclusive<u64>) -> Self {
        Self { path, steps, running: None }
    }

    /// Before step `step`.
    pub(super) fn begin(&mut self, step: u64) -> Result<(), TrainerError> {
        if step == *self.steps.start() {
            self.running = Some(Profiler::start()?);
        }
        Ok(())
    }

    /// Whether the trace is complete after step `step`.
    pub(super) fn is_complete(&self, step: u64) -> bool {
        step == *self.steps.end()
    }

    /// Waits for `device`, writes what was recorded up to step `step`, and says what came of it.
    pub(super) fn end(self, step: u64, device: Device) -> Result<String, TrainerError> {
        let first = *self.steps.start();
        let Some(profiler) = self.running else {
            return Ok(format!(
                "no trace: the run ended after step {step} of this session, and step {first} was to be recorded"
            ));
        };
        if let Device::Cuda(ordinal) = device {
            tch::Cuda::synchronize(ordinal as i64);
        }
        let events = profiler.stop()?;
        write(&self.path, &events)?;
        let steps = 1 + step - first;
        let which = if steps == 1 { format!("step {step}") } else { format!("steps {first} to {step}, each") };
        Ok(format!("{which}: {}; {}", Overlap::of(&events).describe(steps), self.path.display()))
    }
}

/// What a GPU did in some steps.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Overlap {
    /// From the first kernel's start to the last one's end, in milliseconds.
    pub(super) span_ms: f64,
    /// In which nothing ran.
    pub(super) idle_ms: f64,
    /// In which some communication ran.
    pub(super) communication_ms: f64,
    /// In which both ran.
    pub(super) hidden_ms: f64,
}

impl Overlap {
    /// Of the events of a step, in the order of their starts.
    pub(super) fn of(events: &[Event]) -> Self {
        let kernels = events.iter().filter(|event| event.on_gpu && event.duration_ns > 0);
        let (mut communication, mut computation) = (Vec::new(), Vec::new());
        for event in kernels {
            let span = (event.start_ns, event.start_ns + event.duration_ns);
            let which = if event.name.starts_with(COMMUNICATION) { &mut communication } else { &mut computation };
            which.push(span);
        }
        let (communication, computation) = (union(communication), union(computation));
        let all = union([&communication[..], &computation[..]].concat());
        let ms = |ns: u64| ns as f64 / 1e6;
        let total = |spans: &[(u64, u64)]| spans.iter().map(|(start, end)| end - start).sum::<u64>();
        let together = total(&communication) + total(&computation) - total(&all);
        let span = all.first().zip(all.last()).map_or(0, |(first, last)| last.1 - first.0);
        Self {
            span_ms: ms(span),
            idle_ms: ms(span - total(&all)),
            communication_ms: ms(total(&communication)),
            hidden_ms: ms(together),
        }
    }

    /// Per step of `steps`.
    pub(super) fn describe(&self, steps: u64) -> String {
        let share = if self.communication_ms > 0.0 { 100.0 * self.hidden_ms / self.communication_ms } else { 100.0 };
        let [span, idle, communication] =
            [self.span_ms, self.idle_ms, self.communication_ms].map(|total| total / steps as f64);
        format!(
            "{span:.1} ms on the GPU, {idle:.1} of them idle; communication {communication:.1} ms, {share:.0} % of it while something was computed"
        )
    }
}

/// The times covered by spans, as spans that do not touch.
fn union(mut spans: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    spans.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (start, end) in spans {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}

/// Writes events for Chrome's viewer: the CPU's operations, the GPU's kernels and its communication in a row each.
pub(super) fn write(path: &Path, events: &[Event]) -> Result<(), TrainerError> {
    let first = events.first().map_or(0, |event| event.start_ns);
    let row = |event: &Event| match event {
        Event { on_gpu: false, .. } => "CPU",
        event if event.name.starts_with(COMMUNICATION) => "GPU, communication",
        _ => "GPU",
    };
    let shown = events.iter().map(|event| {
        serde_json::json!({
            "name": event.name, "ph": "X", "pid": "training", "tid": row(event),
            "ts": (event.start_ns - first) as f64 / 1e3, "dur": event.duration_ns as f64 / 1e3,
        })
    });
    let trace = serde_json::json!({ "traceEvents": shown.collect::<Vec<_>>() });
    files::write_bytes_atomically(path, trace.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, on_gpu: bool, start_ms: u64, end_ms: u64) -> Event {
        let duration_ns = (end_ms - start_ms) * 1_000_000;
        Event { name: name.to_owned(), on_gpu, start_ns: start_ms * 1_000_000, duration_ns }
    }

    #[test]
    fn hidden_communication_is_what_runs_beside_computation() {
        let events = [
            event("aten::mm", false, 0, 50),
            event("gemm", true, 10, 20),
            event("scan", true, 15, 30),
            event("ncclDevKernel_AllReduce", true, 25, 40),
            event("gemm", true, 35, 36),
            event("ncclDevKernel_Reduce", true, 42, 44),
        ];
        let overlap = Overlap::of(&events);
        assert_eq!(overlap, Overlap { span_ms: 34.0, idle_ms: 2.0, communication_ms: 17.0, hidden_ms: 6.0 });
        assert_eq!(
            overlap.describe(2),
            "17.0 ms on the GPU, 1.0 of them idle; communication 8.5 ms, 35 % of it while something was computed"
        );
        assert_eq!(Overlap::of(&events[..1]), Overlap::default());
    }
}
