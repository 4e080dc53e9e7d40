//! What a person sees of work that takes long: a bar on a terminal, a line now and then in a file; on stderr.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::format::{duration, thousands};

/// Between two lines of a log.
const INTERVAL: Duration = Duration::from_secs(30);

/// A bar, where there is a terminal to draw it on.
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    /// One that stands nowhere yet; none if it is not `wanted`.
    pub(crate) fn new(wanted: bool) -> Self {
        Self((wanted && stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
            match ProgressStyle::with_template("{bar:24} {percent:>3} %  {msg}  {prefix}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        }))
    }

    /// Whether it is drawn.
    pub(crate) fn is_drawn(&self) -> bool {
        self.0.is_some()
    }

    /// Shows that `done` of `all` is done, with a text beside it.
    pub(crate) fn show(&self, done: u64, all: u64, text: String) {
        if let Some(bar) = &self.0 {
            bar.set_length(all);
            bar.set_position(done);
            bar.set_message(text);
        }
    }

    /// Says behind the text what goes on meanwhile; an empty text ends it.
    pub(crate) fn meanwhile(&self, what: String) {
        if let Some(bar) = &self.0 {
            bar.set_prefix(what);
        }
    }

    /// Prints a line above the bar.
    pub(crate) fn note(&self, line: &str) {
        match &self.0 {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Removes it.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// The display of work on so many things.
pub(crate) struct Progress {
    bar: Bar,
    noun: &'static str,
    /// Of several processes one alone does.
    shows: bool,
    things: u64,
    started: Instant,
    shown: Instant,
}

impl Progress {
    /// A display for so many `noun`, such as `images`.
    pub(crate) fn new(noun: &'static str, things: usize) -> Self {
        Self::shown_if(true, noun, things)
    }

    /// The same, of a process that says nothing unless it `shows`.
    pub(crate) fn shown_if(shows: bool, noun: &'static str, things: usize) -> Self {
        let now = Instant::now();
        Self { bar: Bar::new(shows), noun, shows, things: things as u64, started: now, shown: now }
    }

    /// Shows that `done` of `all` steps are done; things are counted in proportion.
    pub(crate) fn update(&mut self, done: usize, all: usize) {
        let is_due = self.shown.elapsed() >= INTERVAL;
        if !self.shows || !self.bar.is_drawn() && !is_due {
            return;
        }
        let text = text(self.noun, self.things, (done, all), self.started.elapsed());
        if self.bar.is_drawn() {
            self.bar.show(done as u64, all as u64, text);
        } else {
            eprintln!("{text}");
            self.shown = Instant::now();
        }
    }

    /// Prints a line above the bar.
    pub(crate) fn note(&self, line: &str) {
        self.bar.note(line);
    }

    /// Removes the bar; returns how long it took.
    pub(crate) fn finish(&self) -> Duration {
        self.bar.finish();
        self.started.elapsed()
    }
}

/// Every step takes as long as any other; things are finished in batches.
fn text(noun: &str, things: u64, (done, all): (usize, usize), elapsed: Duration) -> String {
    let share = if all == 0 { 0.0 } else { done as f64 / all as f64 };
    let finished = things as f64 * share;
    let count = format!("{} of {} {noun}", thousands(finished as u64), thousands(things));
    if done == 0 {
        return count;
    }
    let per_s = finished / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let left = Duration::try_from_secs_f64(elapsed.as_secs_f64() * (1.0 / share - 1.0)).unwrap_or(Duration::MAX);
    format!("{count}, {per_s:.1} a second, {} left", duration(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_that_of_the_steps_left() {
        let of = |things, steps, seconds| text("images", things, steps, Duration::from_secs(seconds));
        assert_eq!(of(50_000, (0, 1000), 9), "0 of 50,000 images");
        assert_eq!(of(50_000, (250, 1000), 60), "12,500 of 50,000 images, 208.3 a second, 3:00 left");
        assert_eq!(of(3, (20, 20), 60), "3 of 3 images, 0.1 a second, 0:00 left");
        assert_eq!(of(0, (0, 0), 0), "0 of 0 images");
    }
}
