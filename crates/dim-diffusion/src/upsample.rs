//! Upsampling without training: larger images from a network that was trained on smaller ones. Source: Hwang et al. 2024,
//! "Upsample Guidance: Scale Up Diffusion Models without Training" (arXiv 2404.01709); DiM (arXiv 2405.14224), section 3.4.
//!
//! Shrunk by a factor m, a noisy image has less noise: it looks like one of an earlier time tau, when the signal-to-noise ratio
//! was m² as high, and of a smaller scale. There the network is at home. What it predicts for the small image replaces, early in
//! sampling, the coarse part of what it predicts for the large one:
//!
//! ```text
//! P = alpha_bar + (1 − alpha_bar) / m²                 low = predict(shrunk(x) / √P, tau)
//! prediction = high + weight · enlarged(low / m − shrunk(high))
//! ```
//!
//! That is for diffusion; [`FlowUpsampleGuidance`] is the same for straight paths.

mod flow;
mod times;

use tch::{Kind, Tensor};

pub use flow::FlowUpsampleGuidance;
pub use times::{Matched, MatchedTimes, TimeMatching};

use crate::{
    Denoiser, DiffusionError, Prediction,
    schedule::{NoiseSchedule, ScaledLinear},
};

/// The options of [`UpsampleGuidance`]; those that are left out are the authors'.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpsampleOptions {
    /// The image's side over that of the images that the network was trained on, at least 2.
    pub factor: usize,
    /// Weight of the guidance.
    pub theta: f64,
    /// Share of the time, from its noisy end, that guidance lasts.
    pub eta: f64,
    /// How the times of the small image are found; those of straight paths need no table.
    pub matching: TimeMatching,
}

impl UpsampleOptions {
    /// The authors' options for a factor.
    #[must_use]
    pub fn new(factor: usize) -> Self {
        Self { factor, theta: 1.0, eta: 0.3, matching: TimeMatching::Corrected }
    }

    fn validate(self) -> Result<(), DiffusionError> {
        if self.factor < 2 {
            return Err(DiffusionError::option("factor", "a whole number of at least 2", self.factor));
        }
        if !self.theta.is_finite() {
            return Err(DiffusionError::option("theta", "a finite number", self.theta));
        }
        if !(0.0..=1.0).contains(&self.eta) {
            return Err(DiffusionError::option("eta", "from 0 to 1", self.eta));
        }
        Ok(())
    }

    /// Weight of the guidance at a network time, of which `last` is the noisiest.
    fn weight(&self, network_time: f64, last: f64) -> f64 {
        // In f32, as the authors compare: 0.7 counts as 0.7.
        #[allow(clippy::cast_possible_truncation)]
        let first = ((1.0 - self.eta) * last) as f32;
        if network_time >= f64::from(first) { self.theta } else { 0.0 }
    }

    /// The factor as libtorch counts sizes.
    fn factor(&self) -> i64 {
        self.factor as i64
    }

    fn check_shape(&self, x_t: &Tensor) -> Result<(), DiffusionError> {
        let (size, m) = (x_t.size(), self.factor());
        if size.len() == 4 && size[2] % m == 0 && size[3] % m == 0 {
            return Ok(());
        }
        Err(DiffusionError::WrongShape {
            argument: "x_t".to_owned(),
            expected: format!("[batch, channel, row, column], rows and columns multiples of the factor {m}"),
            actual: size,
        })
    }

    /// Means of the squares of m × m pixels.
    fn shrunk(&self, x: &Tensor) -> Result<Tensor, DiffusionError> {
        let m = self.factor();
        Ok(x.f_avg_pool2d([m, m], [m, m], [0, 0], false, true, None)?)
    }

    /// What makes the coarse part of `high`, of the large image's size, that of `low`, of the small one's.
    fn correction(&self, high: &Tensor, low: &Tensor) -> Result<Tensor, DiffusionError> {
        let coarse = low - self.shrunk(high)?;
        let size = high.size();
        Ok(coarse.f_upsample_nearest2d([size[2], size[3]], None, None)?)
    }
}

/// The first image's time, which counts for all.
fn first_of(t: &Tensor) -> Result<f64, DiffusionError> {
    Ok(t.f_narrow(0, 0, 1)?.to_kind(Kind::Double).f_double_value(&[0])?)
}

/// A denoiser of large images made of one of small images, which may be guided by classes itself. It predicts the noise, whatever
/// the network predicts.
pub struct UpsampleGuidance<'a> {
    denoiser: &'a dyn Denoiser,
    schedule: &'a ScaledLinear,
    times: MatchedTimes<'a>,
    options: UpsampleOptions,
}

impl<'a> UpsampleGuidance<'a> {
    /// Guides `denoiser`, which was trained with `schedule`.
    ///
    /// # Errors
    /// An option that has a value it cannot have.
    pub fn new(
        denoiser: &'a dyn Denoiser,
        schedule: &'a ScaledLinear,
        options: UpsampleOptions,
    ) -> Result<Self, DiffusionError> {
        options.validate()?;
        let times = MatchedTimes::new(schedule, options.factor, options.matching);
        Ok(Self { denoiser, schedule, times, options })
    }

    /// Weight of the guidance at a network time.
    #[must_use]
    pub fn weight(&self, network_time: f64) -> f64 {
        self.options.weight(network_time, self.times.steps())
    }

    /// The noise that the network sees in `x_t`.
    fn noise(&self, x_t: &Tensor, network_time: f64, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        let output = self.denoiser.predict_at(x_t, network_time, class)?;
        let prediction = self.denoiser.prediction();
        if prediction == Prediction::Epsilon {
            return Ok(output);
        }
        let t = Tensor::from(network_time / self.times.steps());
        let [alpha, sigma] = [self.schedule.alpha(&t), self.schedule.sigma(&t)];
        Ok(prediction.noise(&output, x_t, &alpha, &sigma))
    }

    /// Means of the squares of m × m pixels.
    pub(crate) fn shrunk(&self, x: &Tensor) -> Result<Tensor, DiffusionError> {
        self.options.shrunk(x)
    }

    /// What is added to the prediction `high` for the large image, given that for the small one.
    pub(crate) fn correction(&self, high: &Tensor, low: &Tensor) -> Result<Tensor, DiffusionError> {
        self.options.correction(high, &(low / self.options.factor as f64))
    }
}

impl Denoiser for UpsampleGuidance<'_> {
    /// The time of the first image counts for all; reading it waits for the device, which samplers avoid by
    /// [`Denoiser::predict_at`].
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        self.predict_at(x_t, first_of(t)?, class)
    }

    fn predict_at(&self, x_t: &Tensor, network_time: f64, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        self.options.check_shape(x_t)?;
        let high = self.noise(x_t, network_time, class)?;
        let weight = self.weight(network_time);
        if weight == 0.0 {
            return Ok(high);
        }
        let Matched { power, network_time: tau } = self.times.at(network_time);
        let low = self.noise(&(self.shrunk(x_t)? / power.sqrt()), tau, class)?;
        Ok(&high + weight * self.correction(&high, &low)?)
    }

    fn null_class(&self) -> Option<i64> {
        self.denoiser.null_class()
    }
}
