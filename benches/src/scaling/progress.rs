//! How far a sweep has come, and how long it will take.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

/// Times that a run is done besides those that are kept: warming up.
const WARM_UP: f64 = 2.0;
/// Timings of a point at least.
const LEAST_SAMPLES: f64 = 3.0;
/// Building a network, and the like.
const OVERHEAD_S: f64 = 0.5;

/// What a point will cost, as far as is known: the multiply-accumulates of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// Seconds that a point is timed for.
    pub seconds_per_point: f64,
    /// Multiply-accumulates a second that the points so far had.
    pub macs_per_s: f64,
}

impl Forecast {
    /// Seconds of one run.
    #[must_use]
    pub fn run_s(&self, macs: f64) -> f64 {
        macs / self.macs_per_s
    }

    /// Seconds of a point.
    #[must_use]
    pub fn point_s(&self, macs: f64) -> f64 {
        let run = self.run_s(macs);
        OVERHEAD_S + self.seconds_per_point.max(LEAST_SAMPLES * run) + WARM_UP * run
    }

    /// Learns from a run; the newest counts a half, since large points resemble each other.
    pub fn learn(&mut self, macs: f64, seconds: f64) {
        let seen = macs / seconds;
        if seen.is_finite() && seen > 0.0 {
            self.macs_per_s = (self.macs_per_s * seen).sqrt();
        }
    }
}

/// A bar on a terminal, a line a point in a file.
pub struct Progress {
    bar: Option<ProgressBar>,
    start: Instant,
    all: usize,
    done: usize,
}

impl Progress {
    /// For so many points, of which some are done.
    #[must_use]
    pub fn new(all: usize, done: usize) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(all as u64).with_position(done as u64);
            if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} points  {prefix}  {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        Self { bar, start: Instant::now(), all, done }
    }

    /// Says what is being measured.
    pub fn begin(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// Says what came of it, and how long the rest will take.
    pub fn end(&mut self, result: &str, left_s: f64) {
        self.done += 1;
        let left = HumanDuration(Duration::from_secs_f64(left_s.clamp(0.0, 1e7)));
        match &self.bar {
            Some(bar) => {
                bar.println(result);
                bar.set_prefix(format!("{left} left"));
                bar.inc(1);
            }
            None => eprintln!("[{}/{}] {result}  ({left} left)", self.done, self.all),
        }
    }

    /// The bar goes; returns how long it all took.
    #[must_use]
    pub fn finish(&self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forecast_nears_what_is_seen() {
        let mut forecast = Forecast { seconds_per_point: 2.0, macs_per_s: 1e12 };
        for _ in 0..20 {
            forecast.learn(1e9, 0.1);
        }
        assert!((forecast.run_s(1e10) - 1.0).abs() < 0.01);
        // Five runs of a second take longer than the two seconds that a point should.
        assert!((forecast.point_s(1e10) - 5.5).abs() < 0.05);
        assert!((forecast.point_s(1e6) - 2.5).abs() < 0.01);
        forecast.learn(0.0, 0.0);
        assert!(forecast.macs_per_s.is_finite());
    }
}
