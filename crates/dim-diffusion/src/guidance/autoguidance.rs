//! Guidance by a worse network: Karras et al., "Guiding a Diffusion Model with a Bad Version of Itself", arXiv 2406.02507,
//! equation 3.

use tch::Tensor;

use crate::{Denoiser, DiffusionError, Prediction, check};

/// A denoiser that moves the prediction away from that of a weaker network (smaller, or trained for less long) for the same
/// class: `main + (scale − 1) (main − weak)`. At scale 1 the weak network is not asked.
pub struct Autoguidance<'a> {
    main: &'a dyn Denoiser,
    weak: &'a dyn Denoiser,
    scale: f64,
}

impl<'a> Autoguidance<'a> {
    /// Guides `main` by `weak`.
    ///
    /// # Errors
    /// If the scale is not finite, or the networks do not know the same classes or do not predict the same.
    pub fn new(main: &'a dyn Denoiser, weak: &'a dyn Denoiser, scale: f64) -> Result<Self, DiffusionError> {
        if !scale.is_finite() {
            return Err(DiffusionError::option("scale", "a finite number", scale));
        }
        let (of_main, of_weak) = (main.null_class(), weak.null_class());
        if of_main != of_weak {
            let [expected, actual] = [of_main, of_weak].map(|class| class.map_or("none".to_owned(), |k| k.to_string()));
            return Err(DiffusionError::option("the weak network's null class", expected, actual));
        }
        if main.prediction() != weak.prediction() {
            let (expected, actual) = (main.prediction().to_string(), weak.prediction());
            return Err(DiffusionError::option("the weak network's prediction", expected, actual));
        }
        Ok(Self { main, weak, scale })
    }

    fn combine(
        &self,
        main: Tensor,
        weak: impl FnOnce() -> Result<Tensor, DiffusionError>,
    ) -> Result<Tensor, DiffusionError> {
        if self.scale == 1.0 {
            return Ok(main);
        }
        let weak = weak()?;
        check::same_shape("the weak denoiser's prediction", &weak, &main.size())?;
        Ok(&main + (&main - weak) * (self.scale - 1.0))
    }
}

impl Denoiser for Autoguidance<'_> {
    fn predict(&self, x_t: &Tensor, t: &Tensor, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        self.combine(self.main.predict(x_t, t, class)?, || self.weak.predict(x_t, t, class))
    }

    fn predict_at(&self, x_t: &Tensor, network_time: f64, class: Option<&Tensor>) -> Result<Tensor, DiffusionError> {
        self.combine(self.main.predict_at(x_t, network_time, class)?, || self.weak.predict_at(x_t, network_time, class))
    }

    fn prediction(&self) -> Prediction {
        self.main.prediction()
    }

    fn null_class(&self) -> Option<i64> {
        self.main.null_class()
    }
}
