//! The training loss: how well the network tells the noise from the image.
//!
//! Ho et al., "Denoising Diffusion Probabilistic Models", arXiv 2006.11239, equation 14, for any [`Prediction`];
//! label dropout after Ho and Salimans, "Classifier-Free Diffusion Guidance", arXiv 2207.12598, algorithm 1.

mod loss_weight;
mod time_sampling;

pub use loss_weight::LossWeight;
pub use time_sampling::TimeSampling;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    Denoiser, DiffusionError, Prediction,
    check::{self, TRAINING_KINDS},
    noise::NoiseStream,
    schedule::NoiseSchedule,
    upload,
};

/// What may be chosen about the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveOptions {
    /// The probability with which a label is replaced by the null class, in `[0, 1]`.
    pub class_dropout: f64,
    /// Tell the network its time rounded to bf16 (8 bits: above 256, not every step), as in the DiM authors'
    /// training of latent models. Sampling never rounds.
    pub round_time_to_bf16: bool,
    /// How much each sample's error counts.
    pub loss_weight: LossWeight,
    /// Which times are drawn.
    pub time_sampling: TimeSampling,
}

/// The loss of a denoiser, with every random draw a function of the seed and the image's place in training.
#[derive(Clone, Debug)]
pub struct Objective {
    options: ObjectiveOptions,
    null_class: Option<i64>,
    times: NoiseStream,
    noise: NoiseStream,
    dropout: NoiseStream,
}

/// A training batch made ready for the network.
#[derive(Debug)]
pub struct NoisyBatch {
    /// The noisy images, `[batch, …]`, of the kind and device of the clean ones.
    pub x_t: Tensor,
    /// The network's time, `[batch]`, f32, on the same device.
    pub t: Tensor,
    /// The clean images, of the shape, kind and device of `x_t`.
    pub x_0: Tensor,
    /// The noise in `x_t`, of its shape, kind and device.
    pub noise: Tensor,
    /// The share of the clean image, `[batch]`, f32 or f64, on the CPU.
    pub alpha: Tensor,
    /// The share of the noise, likewise.
    pub sigma: Tensor,
    /// The labels after dropout, `[batch]`, i64, on the same device.
    pub class: Option<Tensor>,
}

/// The loss of a batch.
#[derive(Debug)]
pub struct Loss {
    /// The mean over the batch, 0-dimensional, f32, with its graph.
    pub mean: Tensor,
    /// The mean over each sample's elements, weighted, `[batch]`, f32, with its graph.
    pub per_sample: Tensor,
}

impl Objective {
    /// An objective whose draws follow `seed`; `null_class` is the label that means "no class".
    ///
    /// # Errors
    /// If an option has a value it cannot have, or `class_dropout` is above 0 without a null class.
    pub fn new(options: ObjectiveOptions, null_class: Option<i64>, seed: u64) -> Result<Self, DiffusionError> {
        if !(0.0..=1.0).contains(&options.class_dropout) {
            return Err(DiffusionError::option("class_dropout", "a probability, 0 to 1", options.class_dropout));
        }
        if options.class_dropout > 0.0 && null_class.is_none() {
            return Err(DiffusionError::Missing {
                argument: "null_class",
                reason: format!(
                    "class_dropout is {}, and a dropped label becomes the null class",
                    options.class_dropout
                ),
            });
        }
        options.loss_weight.validate()?;
        options.time_sampling.validate()?;
        Ok(Self {
            options,
            null_class,
            times: NoiseStream::new(seed, "training time"),
            noise: NoiseStream::new(seed, "training noise"),
            dropout: NoiseStream::new(seed, "class dropout"),
        })
    }

    /// Draws times, noise and dropped labels for a batch, and noises it.
    ///
    /// - `x_0`: `[batch, …]`, any floating-point kind; the noising runs in that kind
    /// - `class`: `[batch]`, i64; best kept on the CPU, where dropout is decided
    /// - `images_seen`: how many images training has seen before this batch; sample `j` is image `images_seen + j`
    ///
    /// # Errors
    /// On wrong shapes or kinds, and on labels outside `0..=null_class`.
    pub fn draw(
        &self,
        schedule: &dyn NoiseSchedule,
        x_0: &Tensor,
        class: Option<&Tensor>,
        images_seen: u64,
    ) -> Result<NoisyBatch, DiffusionError> {
        let batch = check::batch_of("x_0", x_0, TRAINING_KINDS)?;
        let images: Vec<u64> = (0..batch as u64).map(|j| images_seen.wrapping_add(j)).collect();
        let class = class.map(|class| self.drop_labels(class, &images)).transpose()?;

        let drawn: Vec<f64> = images.iter().map(|&image| self.options.time_sampling.draw(self.times, image)).collect();
        let times = schedule.training_times(&drawn);
        let noise = self.noise.normal(&images, &x_0.size()[1..], x_0.device())?.to_kind(x_0.kind());
        Ok(NoisyBatch {
            x_t: times.noised(x_0, &noise)?,
            t: upload(&self.time_told(&times.network_time), x_0.device())?,
            x_0: x_0.shallow_clone(),
            noise,
            alpha: times.alpha,
            sigma: times.sigma,
            class: class.map(|class| upload(&class, x_0.device())).transpose()?,
        })
    }

    /// The loss of `denoiser` on a batch: [`draw`](Self::draw), then [`denoising_loss`].
    ///
    /// # Errors
    /// Those of the two.
    pub fn loss(
        &self,
        denoiser: &dyn Denoiser,
        schedule: &dyn NoiseSchedule,
        x_0: &Tensor,
        class: Option<&Tensor>,
        images_seen: u64,
    ) -> Result<Loss, DiffusionError> {
        denoising_loss(denoiser, &self.draw(schedule, x_0, class, images_seen)?, self.options.loss_weight)
    }

    /// The time that the network is told, f32, rounded to bf16 if the options say so.
    pub fn time_told(&self, network_time: &Tensor) -> Tensor {
        if self.options.round_time_to_bf16 {
            network_time.to_kind(Kind::BFloat16).to_kind(Kind::Float)
        } else {
            network_time.shallow_clone()
        }
    }

    fn drop_labels(&self, class: &Tensor, images: &[u64]) -> Result<Tensor, DiffusionError> {
        check::class_form(class, images.len() as i64)?;
        let Some(null_class) = self.null_class else {
            return Ok(class.shallow_clone());
        };
        let labels = check::class_values(class, null_class)?;
        let kept = labels.iter().zip(images).map(|(&label, &image)| {
            if self.dropout.uniform(image) < self.options.class_dropout { null_class } else { label }
        });
        Ok(Tensor::from_slice(&kept.collect::<Vec<_>>()))
    }
}

/// The mean squared error of what the network predicts, per sample, weighted, and over the batch, in f32.
///
/// # Errors
/// If the network fails or returns another shape.
pub fn denoising_loss(denoiser: &dyn Denoiser, batch: &NoisyBatch, weight: LossWeight) -> Result<Loss, DiffusionError> {
    let predicted = denoiser.predict(&batch.x_t, &batch.t, batch.class.as_ref())?;
    check::same_shape("the denoiser's prediction", &predicted, &batch.noise.size())?;
    let error = target(denoiser.prediction(), batch)? - predicted.to_kind(Kind::Float);
    let mut per_sample = error.square().flatten(1, -1).mean_dim(1, false, Kind::Float);
    if weight != LossWeight::Uniform {
        per_sample *= upload(&weights(weight, denoiser.prediction(), batch)?, per_sample.device())?;
    }
    Ok(Loss { mean: per_sample.mean(Kind::Float), per_sample })
}

/// What the network should have told, f32.
fn target(prediction: Prediction, batch: &NoisyBatch) -> Result<Tensor, DiffusionError> {
    if prediction == Prediction::Epsilon {
        return Ok(batch.noise.to_kind(Kind::Float)); // without taking the shares to the device
    }
    let mut per_sample = vec![1; batch.x_0.dim()];
    per_sample[0] = -1;
    let share = |share: &Tensor| -> Result<Tensor, DiffusionError> {
        Ok(upload(&share.to_kind(Kind::Float), batch.x_0.device())?.f_view(&per_sample[..])?)
    };
    let (alpha, sigma) = (share(&batch.alpha)?, share(&batch.sigma)?);
    let [x_0, noise] = [&batch.x_0, &batch.noise].map(|x| x.to_kind(Kind::Float));
    Ok(prediction.target(&x_0, &noise, &alpha, &sigma))
}

/// The weight of each sample, `[batch]`, f32, on the CPU.
fn weights(weight: LossWeight, prediction: Prediction, batch: &NoisyBatch) -> Result<Tensor, DiffusionError> {
    let [alpha, sigma] = [&batch.alpha, &batch.sigma].map(|share| Vec::<f64>::try_from(share.to_kind(Kind::Double)));
    let of_samples = alpha?.into_iter().zip(sigma?).map(|(alpha, sigma)| weight.at(prediction, alpha, sigma) as f32);
    Ok(Tensor::from_slice(&of_samples.collect::<Vec<_>>()))
}
