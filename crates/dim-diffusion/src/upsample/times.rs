//! When an image that was shrunk looks like one of the network's own.

use tch::{Kind, Tensor};

use crate::schedule::{NoiseSchedule, ScaledLinear};

/// How the time of the small image is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeMatching {
    /// As in the authors' program, with its two inaccuracies: times come from a table of 1000 on a scale of 999, so that the
    /// network is told up to a thousandth too much, and five entries of the table are of the step before.
    Published,
    /// From the schedule itself, exactly.
    Corrected,
}

/// What the small image looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matched {
    /// Its mean square over that of an image of the network's own: what it is divided by the root of.
    pub power: f64,
    /// The network's time for it.
    pub network_time: f64,
}

/// Times matched for one factor.
pub struct MatchedTimes<'a> {
    schedule: &'a ScaledLinear,
    factor: f64,
    matching: TimeMatching,
    /// Signal-to-noise ratio of each preset time of the published program, in f32.
    presets: Vec<f32>,
}

/// The published program's last preset time, in place of 0.
const LAST_PRESET: f32 = 1e-5;

impl<'a> MatchedTimes<'a> {
    /// The times for images that are `factor` times as large.
    pub(crate) fn new(schedule: &'a ScaledLinear, factor: usize, matching: TimeMatching) -> Self {
        #[allow(clippy::cast_precision_loss)] // a small number
        let mut times = Self { schedule, factor: factor as f64, matching, presets: Vec::new() };
        times.presets = times.preset_indices().into_iter().map(|index| times.ratio(index)).collect();
        times
    }

    /// Steps of the schedule: the network's last time.
    #[allow(clippy::cast_precision_loss)] // thousands
    pub(super) fn steps(&self) -> f64 {
        self.schedule.steps() as f64
    }

    /// The step that a network time is counted as.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative, and cut off on purpose
    pub(crate) fn index(&self, network_time: f64) -> usize {
        (network_time.max(0.0) as usize).min(self.schedule.steps())
    }

    /// `alpha_bar` and `1 − alpha_bar` of a step, in f32.
    #[allow(clippy::cast_possible_truncation)] // the published program's type
    pub(crate) fn shares(&self, index: usize) -> (f32, f32) {
        let alpha_bar = self.schedule.alpha_bar_table()[index];
        (alpha_bar as f32, (1.0 - alpha_bar) as f32)
    }

    /// Signal-to-noise ratio of a step, in f32; infinite at step 0.
    pub(crate) fn ratio(&self, index: usize) -> f32 {
        let (signal, noise) = self.shares(index);
        signal / noise
    }

    /// The steps that the published program takes its preset times for.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // its types
    pub(crate) fn preset_indices(&self) -> Vec<usize> {
        let steps = self.schedule.steps();
        (0..steps)
            .map(|j| {
                let time = if j + 1 == steps { LAST_PRESET } else { (steps - 1 - j) as f32 / steps as f32 };
                (time * steps as f32) as usize
            })
            .collect()
    }

    /// The preset whose ratio is nearest to that of step `index` times the square of the factor.
    #[allow(clippy::cast_possible_truncation)] // its type
    pub(crate) fn nearest_preset(&self, index: usize) -> usize {
        let wanted = self.ratio(index) * (self.factor * self.factor) as f32;
        let distance = |ratio: &f32| (wanted - ratio).abs();
        let best = self.presets.iter().enumerate().min_by(|one, other| distance(one.1).total_cmp(&distance(other.1)));
        best.map_or(0, |(index, _)| index)
    }

    /// What a shrunk image of this network time looks like.
    #[must_use]
    pub fn at(&self, network_time: f64) -> Matched {
        match self.matching {
            TimeMatching::Published => self.published(network_time),
            TimeMatching::Corrected => self.corrected(network_time),
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // the published program's types
    fn published(&self, network_time: f64) -> Matched {
        let index = self.index(network_time);
        let (signal, noise) = self.shares(index);
        let power = signal + noise / (self.factor * self.factor) as f32;
        let last = (self.presets.len() - 1) as f64;
        let tau = (1.0 - self.nearest_preset(index) as f64 / last).min(network_time / self.steps());
        Matched { power: f64::from(power), network_time: self.steps() * tau }
    }

    fn corrected(&self, network_time: f64) -> Matched {
        let t = Tensor::from(network_time / self.steps()).to_kind(Kind::Double);
        let alpha_bar = self.schedule.alpha_bar(&t).double_value(&[]);
        let power = alpha_bar + (1.0 - alpha_bar) / (self.factor * self.factor);
        // Half the logarithm of the signal-to-noise ratio grows by that of the factor.
        let tau = self.schedule.time_at_half_log_snr(&(self.schedule.half_log_snr(&t) + self.factor.ln()));
        Matched { power, network_time: self.schedule.network_time(&tau).double_value(&[]) }
    }
}
