//! The gradient of one optimiser step, in pieces that fit the device.

use dim_diffusion::objective::Objective;
use dim_diffusion::schedule::NoiseSchedule;
use tch::Tensor;

use super::team::GradientSum;
use crate::denoiser::Network;
use crate::error::TrainerError;

/// What the gradient is taken of.
pub struct Loss {
    /// The objective, with all its randomness.
    pub objective: Objective,
    /// The noise schedule.
    pub schedule: Box<dyn NoiseSchedule>,
    /// Images that go through the network at once.
    pub micro_batch_size: usize,
}

impl Loss {
    /// Adds the gradient of these images' share in the mean loss of a step to `sum`, whose parameters are the network's. Returns that share, 0-dim,
    /// on the device, without waiting for it.
    ///
    /// - `images`: `[image, channel, row, column]` in [-1, 1], on the network's device
    /// - `class`: `[image]`, i64; `None` trains without classes
    /// - `images_seen`: images that come before these in the run; noise and times of image `i` are a function of `images_seen + i`, so the result
    ///   depends on `micro_batch_size` in its rounding alone
    ///
    /// # Errors
    /// [`TrainerError::Diffusion`], [`TrainerError::Libtorch`]: out of memory mostly.
    pub fn gradients(
        &self,
        network: &Network,
        images: &Tensor,
        class: Option<&Tensor>,
        images_seen: u64,
        sum: &GradientSum<'_>,
    ) -> Result<Tensor, TrainerError> {
        sum.add(images.size()[0], self.micro_batch_size, |start, piece| {
            let class = class.map(|class| class.f_narrow(0, start, piece)).transpose()?;
            let images = images.f_narrow(0, start, piece)?;
            let first = images_seen + start as u64;
            Ok(self.objective.loss(network, &*self.schedule, &images, class.as_ref(), first)?.mean)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use dim_diffusion::objective::ObjectiveOptions;
    use dim_model::BackboneConfig;
    use dim_model::{DimConfig, ModelConfig, Precision};
    use dim_torch::Parameters;
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::*;
    use crate::config::Schedule;
    use crate::sampling::build_schedule;

    const BATCH: i64 = 6;

    /// Loss and flat gradient of one fixed batch, cut into pieces.
    fn gradient(micro_batch_size: usize, images_seen: u64) -> (f64, Tensor) {
        tch::set_num_threads(1); // tests run side by side; threads that wait for each other would only spin
        let config = DimConfig::tiny();
        let parameters = Parameters::zeros(&config.parameter_specs(), Device::Cpu).unwrap();
        let network = Network::new(ModelConfig::Dim(config.clone()), parameters, Precision::F32).unwrap();
        network.initialise(5).unwrap();
        let options = ObjectiveOptions { class_dropout: 0.5, ..ObjectiveOptions::default() };
        let objective = Objective::new(options, Some(config.null_label() as i64), 7).unwrap();
        let loss = Loss { objective, schedule: build_schedule(Schedule::Sd, 1.0).unwrap(), micro_batch_size };
        let images = Tensor::arange(BATCH * 3 * 8 * 8, (Kind::Float, Device::Cpu)).sin().view([BATCH, 3, 8, 8]);
        let class = Tensor::from_slice(&[0_i64, 1, 2, 0, 1, 2]);
        // What is left of an earlier step must not count.
        let _ = network.parameters().gradients().unwrap().fill_(1e3);
        let sum = GradientSum::zero(network.parameters(), None, BATCH as usize).unwrap();
        let mean = loss.gradients(&network, &images, Some(&class), images_seen, &sum).unwrap();
        (mean.double_value(&[]), network.parameters().gradients().unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn any_micro_batch_gives_the_same_gradient_to_rounding(micro in 1_usize..=8, images_seen in 0_u64..1_000_000) {
            let (loss, whole) = gradient(BATCH as usize, images_seen);
            let (pieces_loss, pieces) = gradient(micro, images_seen);
            prop_assert!((loss - pieces_loss).abs() < 1e-5 * loss);
            let error = (&whole - &pieces).abs().max().double_value(&[]);
            let largest = whole.abs().max().double_value(&[]);
            prop_assert!(largest > 0.0 && error < 1e-5 * largest, "error {error} of {largest}");
        }
    }

    #[test]
    fn other_images_seen_draw_other_noise() {
        assert_ne!(gradient(6, 0).0, gradient(6, 6).0);
    }
}
