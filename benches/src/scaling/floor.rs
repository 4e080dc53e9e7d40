//! The least time that a network can take on a device, by counting what it must do.

use dim_model::{BackboneConfig, DimConfig, ModelConfig};
use dim_report::record::Mode;
use serde::{Deserialize, Serialize};

use super::ceilings::Ceilings;

/// A backward pass has two products for every one of the forward pass.
const TRAINING_PRODUCTS: f64 = 3.0;
/// The scan's backward pass computes the exponentials of the forward pass again, and each once more for its gradients.
const TRAINING_EXPONENTIALS: f64 = 3.0;
/// Softplus of the step size and SiLU of the gate.
const EXPONENTIALS_BESIDE_STATES: usize = 4;

/// What one image's forward pass must do.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Work {
    macs: f64,
    exponentials: f64,
    /// Of what stands between the products: convolution, norms and the residual stream.
    bytes: f64,
}

/// Milliseconds below which a batch cannot stay, by what takes them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// All products at the speed of a large one.
    pub products_ms: f64,
    /// The scan's exponentials at the speed of their unit.
    pub scan_ms: f64,
    /// What stands between the products, at copy speed: convolution, norms and the residual stream.
    pub between_ms: f64,
}

impl Floor {
    /// The floor of `batch` images. `bytes_per_value`: of activations. For a network other than DiM the products alone are counted,
    /// which favours it.
    #[must_use]
    pub fn new(config: &ModelConfig, mode: Mode, batch: u32, bytes_per_value: f64, ceilings: &Ceilings) -> Self {
        let side = config.image_size();
        #[allow(clippy::cast_precision_loss)] // counts far below 2^53 each
        let macs = config.cost(side, side).total() as f64;
        let work = match config {
            ModelConfig::Dim(dim) => dim_work(dim, macs, bytes_per_value),
            _ => Work { macs, exponentials: 0.0, bytes: 0.0 },
        };
        // A backward pass also reads and writes about twice what the forward pass does.
        let (products, exponentials) =
            if mode == Mode::TrainingStep { (TRAINING_PRODUCTS, TRAINING_EXPONENTIALS) } else { (1.0, 1.0) };
        let passes = if mode == Mode::SamplingStep { 2.0 } else { 1.0 }; // with and without the class
        let ms = |seconds: f64| 1e3 * f64::from(batch) * passes * seconds;
        Self {
            products_ms: ms(products * work.macs / ceilings.macs_per_s),
            scan_ms: ms(ceilings.exponentials_per_s.map_or(0.0, |rate| exponentials * work.exponentials / rate)),
            between_ms: ms(products * work.bytes / ceilings.copy_bytes_per_s),
        }
    }

    /// All together: one kernel runs after the other.
    #[must_use]
    pub fn total_ms(&self) -> f64 {
        self.products_ms + self.scan_ms + self.between_ms
    }
}

#[allow(clippy::cast_precision_loss)] // sizes of layers and images
fn dim_work(config: &DimConfig, macs: f64, bytes_per_value: f64) -> Work {
    let side = config.image_size;
    let tokens = (config.tokens(side, side) * config.depth) as f64;
    let (d, e) = (config.d_model as f64, config.d_inner() as f64);
    let exponentials = tokens * e * (config.d_state + EXPONENTIALS_BESIDE_STATES) as f64;
    // The convolution reads and writes a value a channel; a norm reads the f32 stream and a branch, and writes both.
    let bytes = tokens * (2.0 * e * bytes_per_value + d * (2.0 * 4.0 + 2.0 * bytes_per_value));
    Work { macs, exponentials, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An H200, as measured.
    const H200: Ceilings = Ceilings { macs_per_s: 350e12, copy_bytes_per_s: 4.24e12, exponentials_per_s: Some(3.7e12) };

    /// Images a second.
    fn limit(config: &ModelConfig, mode: Mode) -> f64 {
        1e3 / Floor::new(config, mode, 1, 2.0, &H200).total_ms()
    }

    #[test]
    fn dim_h_has_the_limits_that_were_counted_by_hand() {
        let h = ModelConfig::Dim(DimConfig::dim_h_2());
        for (latent, images_per_s) in [(32, 795.0), (64, 236.0), (128, 65.0), (256, 17.0)] {
            let limit = limit(&h.with_image_size(latent), Mode::Forward);
            assert!((limit / images_per_s - 1.0).abs() < 0.05, "{latent}: {limit}, by hand {images_per_s}");
        }
        let training = limit(&h, Mode::TrainingStep);
        assert!((training / 255.0 - 1.0).abs() < 0.08, "{training}");
    }

    #[test]
    fn guidance_doubles_and_a_batch_multiplies() {
        let config = ModelConfig::Dim(DimConfig::dim_l_2());
        let total = |mode, batch| Floor::new(&config, mode, batch, 2.0, &H200).total_ms();
        assert!((total(Mode::SamplingStep, 3) / total(Mode::Forward, 1) - 6.0).abs() < 1e-9);
    }
}
