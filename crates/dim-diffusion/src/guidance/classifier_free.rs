//! Classifier-free guidance (Ho and Salimans, arXiv 2207.12598, equation 6).

use tch::{Kind, Tensor};

use crate::{Denoiser, DiffusionError, Prediction, check, denoiser::times};

/// A denoiser that moves the prediction for a class away from the prediction for no class.
///
/// It predicts `cond + (w - 1) (cond - uncond)`, where `w` is `cfg_scale`: 1 is the plain conditional network, 0 the
/// unconditional one. (The DiM authors' scale is `w - 1`.) Both predictions come from one pass over a doubled batch;
/// at `w = 1` there is a single conditional pass.
pub struct ClassifierFreeGuidance<'a> {
    denoiser: &'a dyn Denoiser,
    cfg_scale: f64,
    null_class: Option<i64>,
    interval: Option<[f64; 2]>,
    rescale: f64,
}

impl<'a> ClassifierFreeGuidance<'a> {
    /// Guides `denoiser` with weight `cfg_scale`.
    ///
    /// # Errors
    /// If the weight is not finite, or is not 1 while the denoiser has no null class.
    pub fn new(denoiser: &'a dyn Denoiser, cfg_scale: f64) -> Result<Self, DiffusionError> {
        if !cfg_scale.is_finite() {
            return Err(DiffusionError::option("cfg_scale", "a finite number", cfg_scale));
        }
        let null_class = denoiser.null_class();
        if cfg_scale != 1.0 && null_class.is_none() {
            return Err(DiffusionError::Missing {
                argument: "null_class",
                reason: format!(
                    "cfg_scale is {cfg_scale}, and guidance compares with the prediction for no class, \
                     which this network does not have"
                ),
            });
        }
        Ok(Self { denoiser, cfg_scale, null_class, interval: None, rescale: 0.0 })
    }

    /// Guides at network times from `low` to `high` alone; elsewhere the prediction is the plain conditional one, at half the
    /// cost. Source: Kynkäänniemi et al., arXiv 2404.07724.
    ///
    /// # Errors
    /// If `low` is above `high`, or one is no number.
    pub fn within(mut self, low: f64, high: f64) -> Result<Self, DiffusionError> {
        if low > high || low.is_nan() || high.is_nan() {
            return Err(DiffusionError::option(
                "interval",
                "from a lower to a higher network time",
                format!("{low} to {high}"),
            ));
        }
        self.interval = Some([low, high]);
        Ok(self)
    }

    /// Brings the deviation of each guided image a share `phi` of the way back to that of the conditional prediction, which a high
    /// weight drives up. Source: Lin et al., arXiv 2305.08891, equations 15 and 16.
    ///
    /// # Errors
    /// If `phi` is not from 0 to 1.
    pub fn rescaled(mut self, phi: f64) -> Result<Self, DiffusionError> {
        if !(0.0..=1.0).contains(&phi) {
            return Err(DiffusionError::option("rescale", "from 0 to 1", phi));
        }
        self.rescale = phi;
        Ok(self)
    }

    fn rescale(&self, guided: Tensor, conditional: &Tensor) -> Result<Tensor, DiffusionError> {
        if self.rescale == 0.0 {
            return Ok(guided);
        }
        let deviation = |x: &Tensor| {
            let dims: Vec<i64> = (1..x.dim() as i64).collect();
            x.f_std_dim(Some(dims.as_slice()), true, true)
        };
        let ratio = deviation(conditional)? / deviation(&guided)?;
        Ok(&guided * (ratio * self.rescale + (1.0 - self.rescale)))
    }

    /// Whether guidance reaches this time.
    fn reaches(&self, network_time: f64) -> bool {
        self.interval.is_none_or(|[low, high]| (low..=high).contains(&network_time))
    }
}

impl ClassifierFreeGuidance<'_> {
    fn guided(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        let Some(null_class) = self.null_class.filter(|_| self.cfg_scale != 1.0) else {
            return self.denoiser.predict(x_t, t, class);
        };
        let class = class.ok_or_else(|| DiffusionError::Missing {
            argument: "class",
            reason: format!("cfg_scale is {}, and guidance needs labels", self.cfg_scale),
        })?;
        check::class_form(class, x_t.size().first().copied().unwrap_or(0))?;
        let both = self.denoiser.predict(
            &Tensor::cat(&[x_t, x_t], 0),
            &Tensor::cat(&[t, t], 0),
            Some(&Tensor::cat(&[class, &class.full_like(null_class)], 0)),
        )?;
        let mut doubled = x_t.size();
        doubled[0] *= 2;
        check::same_shape("the denoiser's prediction", &both, &doubled)?;
        let halves = both.chunk(2, 0);
        let (conditional, unconditional) = (&halves[0], &halves[1]);
        self.rescale(conditional + (conditional - unconditional) * (self.cfg_scale - 1.0), conditional)
    }
}

impl Denoiser for ClassifierFreeGuidance<'_> {
    /// With an interval, the time of the first image counts for all; reading it waits for the device, which samplers avoid by
    /// [`Denoiser::predict_at`].
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        if self.interval.is_some() && !self.reaches(t.f_narrow(0, 0, 1)?.to_kind(Kind::Double).f_double_value(&[0])?) {
            return self.denoiser.predict(x_t, t, class);
        }
        self.guided(x_t, t, class)
    }

    fn predict_at(&self, x_t: &Tensor, network_time: f64, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        if !self.reaches(network_time) {
            return self.denoiser.predict_at(x_t, network_time, class);
        }
        self.guided(x_t, &times(x_t, network_time)?, class)
    }

    fn prediction(&self) -> Prediction {
        self.denoiser.prediction()
    }

    fn null_class(&self) -> Option<i64> {
        self.null_class
    }
}
