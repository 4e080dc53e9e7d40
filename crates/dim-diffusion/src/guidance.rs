//! Classifier-free guidance (Ho and Salimans, arXiv 2207.12598, equation 6).

use tch::Tensor;

use crate::{Denoiser, DiffusionError, check};

/// A denoiser that moves the prediction for a class away from the prediction for no class.
///
/// It predicts `cond + (w - 1) (cond - uncond)`, where `w` is `cfg_scale`: 1 is the plain conditional network, 0 the
/// unconditional one. (The DiM authors' scale is `w - 1`.) Both predictions come from one pass over a doubled batch;
/// at `w = 1` there is a single conditional pass.
pub struct ClassifierFreeGuidance<'a> {
    denoiser: &'a dyn Denoiser,
    cfg_scale: f64,
    null_class: Option<i64>,
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
        Ok(Self { denoiser, cfg_scale, null_class })
    }
}

impl Denoiser for ClassifierFreeGuidance<'_> {
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
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
        Ok(conditional + (conditional - unconditional) * (self.cfg_scale - 1.0))
    }

    fn null_class(&self) -> Option<i64> {
        self.null_class
    }
}
