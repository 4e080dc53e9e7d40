//! The least time that a network can take on a device, by counting what it must do.

use dim_model::{BackboneConfig, DimConfig, ModelConfig};
use dim_report::record::Mode;

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

/// Milliseconds below which `batch` images cannot stay: all products at the speed of a large one, the scan's exponentials at the
/// speed of their unit, and what stands between them at copy speed. `bytes_per_value`: of activations. For a network other than
/// DiM the products alone are counted, which favours it.
#[must_use]
pub fn floor_ms(config: &ModelConfig, mode: Mode, batch: u32, bytes_per_value: f64, ceilings: &Ceilings) -> f64 {
    let side = config.image_size();
    #[allow(clippy::cast_precision_loss)] // counts far below 2^53 each
    let macs = config.cost(side, side).total() as f64;
    let work = match config {
        ModelConfig::Dim(dim) => dim_work(dim, macs, bytes_per_value),
        _ => Work { macs, exponentials: 0.0, bytes: 0.0 },
    };
    let seconds = |products: f64, exponentials: f64| {
        let exponentials = ceilings.exponentials_per_s.map_or(0.0, |rate| exponentials * work.exponentials / rate);
        // A backward pass also reads and writes about twice what the forward pass does.
        products * work.macs / ceilings.macs_per_s + exponentials + products * work.bytes / ceilings.copy_bytes_per_s
    };
    let an_image = match mode {
        Mode::Forward => seconds(1.0, 1.0),
        Mode::SamplingStep => 2.0 * seconds(1.0, 1.0), // with and without the class
        Mode::TrainingStep => seconds(TRAINING_PRODUCTS, TRAINING_EXPONENTIALS),
    };
    1e3 * f64::from(batch) * an_image
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
        1e3 / floor_ms(config, mode, 1, 2.0, &H200)
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
        let one = floor_ms(&config, Mode::Forward, 1, 2.0, &H200);
        assert!((floor_ms(&config, Mode::SamplingStep, 3, 2.0, &H200) / one - 6.0).abs() < 1e-9);
    }
}
