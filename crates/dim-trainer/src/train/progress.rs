//! What a person sees while training: a bar on a terminal, plain lines in a file.

use std::time::Duration;

use super::log::Record;
use crate::format::{duration, thousands};
use crate::progress::Bar;

/// Weight of the newest value in the smoothed loss and speed.
const SMOOTHING: f64 = 0.25;

/// The display of one run.
pub(super) struct Display {
    bar: Bar,
    total_images: u64,
    loss: Option<f64>,
    images_per_s: Option<f64>,
    silent: bool,
}

impl Display {
    /// A display on stderr for a run of `total_images` that starts, or goes on, at `images_seen`. One that is `silent` shows warnings alone.
    pub(super) fn new(total_images: u64, images_seen: u64, silent: bool) -> Self {
        let bar = Bar::new(!silent);
        bar.show(images_seen, total_images, String::new());
        Self { bar, total_images, loss: None, images_per_s: None, silent }
    }

    /// Shows the newest figures.
    pub(super) fn update(&mut self, record: &Record) {
        let loss = smooth(&mut self.loss, record.loss);
        let images_per_s = smooth(&mut self.images_per_s, record.images_per_s);
        let left =
            Duration::try_from_secs_f64(self.total_images.saturating_sub(record.images_seen) as f64 / images_per_s)
                .unwrap_or(Duration::MAX);
        let text = format!(
            "step {}  loss {loss:.4}  grad {:.3}  {images_per_s:.1} images/s  {} left",
            thousands(record.step),
            record.grad_norm,
            duration(left)
        );
        if self.bar.is_drawn() {
            self.bar.show(record.images_seen, self.total_images, text);
        } else if !self.silent {
            eprintln!("{} / {} images  {text}", thousands(record.images_seen), thousands(self.total_images));
        }
    }

    /// Says beside the bar what goes on that is not training; an empty text ends it.
    pub(super) fn meanwhile(&self, what: String) {
        self.bar.meanwhile(what);
    }

    /// Prints a line above the bar, also where the display is silent.
    pub(super) fn warn(&self, line: &str) {
        self.bar.note(line);
    }

    /// Prints a line above the bar.
    pub(super) fn note(&self, line: &str) {
        if !self.silent {
            self.warn(line);
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        self.bar.finish();
    }
}

fn smooth(state: &mut Option<f64>, value: f64) -> f64 {
    let smoothed = state.map_or(value, |before| before + SMOOTHING * (value - before));
    *state = Some(smoothed);
    smoothed
}
