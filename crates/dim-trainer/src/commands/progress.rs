//! What a person sees while samples are drawn: a bar on a terminal, a line now and then in a file.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::format::{duration, thousands};

/// Between two lines of a log.
const INTERVAL: Duration = Duration::from_secs(30);

/// The display of one command, on stderr.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    images: usize,
    started: Instant,
    shown: Instant,
}

impl Progress {
    /// A display for so many images.
    pub(super) fn new(images: usize) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:24} {percent:>3} %  {msg}") {
                bar.set_style(style);
            }
            bar
        });
        let now = Instant::now();
        Self { bar, images, started: now, shown: now }
    }

    /// Shows that `done` of `all` steps are done.
    pub(super) fn update(&mut self, done: usize, all: usize) {
        let text = || text(self.images, done, all, self.started.elapsed());
        match &self.bar {
            Some(bar) => {
                bar.set_length(all as u64);
                bar.set_position(done as u64);
                bar.set_message(text());
            }
            None if self.shown.elapsed() >= INTERVAL => {
                eprintln!("{}", text());
                self.shown = Instant::now();
            }
            None => {}
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Every step takes as long as any other; images are finished in batches, and counted in proportion to the steps.
fn text(images: usize, done: usize, all: usize, elapsed: Duration) -> String {
    let drawn = (images * done).checked_div(all).unwrap_or(0);
    let count = format!("{} of {} images", thousands(drawn as u64), thousands(images as u64));
    if done == 0 {
        return count;
    }
    let left = elapsed.mul_f64(all.saturating_sub(done) as f64 / done as f64);
    format!("{count}, {} left", duration(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_that_of_the_steps_left() {
        assert_eq!(text(50_000, 0, 1000, Duration::from_secs(9)), "0 of 50,000 images");
        assert_eq!(text(50_000, 250, 1000, Duration::from_secs(60)), "12,500 of 50,000 images, 3:00 left");
        assert_eq!(text(3, 20, 20, Duration::from_secs(60)), "3 of 3 images, 0:00 left");
    }
}
