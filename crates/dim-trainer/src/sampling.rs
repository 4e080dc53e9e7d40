//! Samples from a trained network: the same for the pictures drawn while training and for the `sample` command.

use std::ops::ControlFlow;

use dim_diffusion::guidance::ClassifierFreeGuidance;
use dim_diffusion::noise::{NoiseStream, SampleNoise};
use dim_diffusion::sampler::{Sampler, SamplerInputs, Step};
use dim_diffusion::schedule::{NoiseSchedule, RectifiedFlow, ScaledLinear, VpSde};
use dim_diffusion::upsample::{FlowUpsampleGuidance, UpsampleGuidance, UpsampleOptions};
use dim_diffusion::{Denoiser, DiffusionError};
use dim_model::BackboneConfig;
use tch::{Kind, Tensor};

use crate::config::{Config, Schedule};
use crate::denoiser::Network;
use crate::error::TrainerError;

/// What to draw.
#[derive(Clone, Debug)]
pub struct Request {
    /// Number of images.
    pub count: usize,
    /// The class of each image; `None` for a network used without classes.
    pub classes: Option<Vec<i64>>,
    /// Rows and columns of an image, in pixels of the network's input.
    pub size: [usize; 2],
    /// How many times as large as its training images the network draws, where upsample guidance helps it.
    pub upsample: Option<usize>,
    /// Weight of classifier-free guidance.
    pub cfg_scale: f64,
    /// Network times (0 to 1000) between which guidance is used; `None`: all.
    pub guidance_interval: Option<[f64; 2]>,
    /// How far the deviation of guided predictions is brought back, 0 to 1.
    pub guidance_rescale: f64,
    /// Image `i` is a function of this seed and `i`, however the images are batched.
    pub seed: u64,
    /// The algorithm.
    pub sampler: Sampler,
    /// The noise schedule that the network was trained with.
    pub schedule: Schedule,
    /// Time shift of schedule `flow`; no other schedule has one.
    pub time_shift: f64,
    /// Images that go through the network at once.
    pub batch_size: usize,
}

impl Request {
    /// `count` images of the size that the network was trained at, of its first `classes` classes in turn, without anything but plain guidance; the
    /// rest as the configuration has it.
    pub fn plain(config: &Config, classes: usize, count: usize) -> Self {
        let classes: Vec<i64> = (0..classes as i64).collect();
        Self {
            count,
            classes: (!config.unconditional()).then(|| cycle_classes(&classes, count)),
            size: [config.model.image_size(); 2],
            upsample: None,
            cfg_scale: config.sample.cfg_scale,
            guidance_interval: None,
            guidance_rescale: 0.0,
            seed: config.sample.seed,
            sampler: config.sample.sampler,
            schedule: config.diffusion.schedule,
            time_shift: config.diffusion.time_shift,
            batch_size: config.micro_batch_size(),
        }
    }

    /// Whether there is guidance at all.
    pub fn is_guided(&self) -> bool {
        self.cfg_scale != 1.0 && self.classes.is_some()
    }
}

/// Draws the images, `[image, channel, row, column]`, float32, on the network's device. `observer` is called after every step with the
/// number of steps done and to do, over all batches; `Break` ends the drawing with an error.
///
/// # Errors
/// [`TrainerError::Diffusion`].
pub fn sample(
    network: &Network,
    request: &Request,
    observer: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Tensor, TrainerError> {
    let indices: Vec<u64> = (0..request.count as u64).collect();
    let mut images = Vec::new();
    sample_each(network, request, &indices, observer, |_, batch| {
        images.push(batch);
        Ok(())
    })?;
    Ok(Tensor::f_cat(&images, 0)?)
}

/// Draws those images of the request that have these indices, and gives each batch away as soon as it is drawn: its indices, and
/// `[image, channel, row, column]`, float32, on the network's device. `observer` is as in [`sample`].
///
/// # Errors
/// [`TrainerError::Diffusion`]; what `finished` returns.
pub fn sample_each(
    network: &Network,
    request: &Request,
    indices: &[u64],
    mut observer: impl FnMut(usize, usize) -> ControlFlow<()>,
    mut finished: impl FnMut(&[u64], Tensor) -> Result<(), TrainerError>,
) -> Result<(), TrainerError> {
    let _no_grad = tch::no_grad_guard();
    let mut guided = ClassifierFreeGuidance::new(network, request.cfg_scale)?.rescaled(request.guidance_rescale)?;
    if let Some([low, high]) = request.guidance_interval {
        guided = guided.within(low, high)?;
    }
    let schedule = build_schedule(request.schedule, request.time_shift)?;
    let discrete = ScaledLinear::stable_diffusion();
    let upsampled: Option<Box<dyn Denoiser>> = match (request.upsample.map(UpsampleOptions::new), request.schedule) {
        (Some(options), Schedule::Sd) => Some(Box::new(UpsampleGuidance::new(&guided, &discrete, options)?)),
        (Some(options), Schedule::Flow) => Some(Box::new(FlowUpsampleGuidance::new(&guided, options)?)),
        (Some(_), Schedule::VpSde) => {
            return Err(TrainerError::Usage(
                "--upsample: this network was trained with the schedule vp_sde, and upsample guidance is for sd and flow"
                    .to_owned(),
            ));
        }
        (None, _) => None,
    };
    let denoiser: &dyn Denoiser = upsampled.as_deref().unwrap_or(&guided);
    let device = network.parameters().device();
    let shape = [network.config().in_channels(), request.size[0], request.size[1]].map(|size| size as i64);

    let batches: Vec<&[u64]> = indices.chunks(request.batch_size.max(1)).collect();
    for (done, batch) in batches.iter().enumerate() {
        let x = NoiseStream::new(request.seed, "samples").normal(batch, &shape, device)?;
        let noise = SampleNoise::new(NoiseStream::new(request.seed, "sampler steps"), batch.to_vec());
        let class = request.classes.as_ref().map(|classes| {
            let labels: Vec<i64> = batch.iter().map(|index| classes[*index as usize]).collect();
            Tensor::from_slice(&labels).to_device(device)
        });
        let inputs =
            SamplerInputs { denoiser, schedule: &*schedule, x: &x, class: class.as_ref(), noise: Some(&noise) };
        let mut observe = |step: &Step<'_>| observer(done * step.steps + step.step, batches.len() * step.steps);
        let images = request.sampler.sample(&inputs, &mut observe)?;
        finished(batch, images.f_to_kind(Kind::Float).map_err(DiffusionError::from)?)?;
    }
    Ok(())
}

/// `classes` in turn, over and over, one for each of `count` images.
pub fn cycle_classes(classes: &[i64], count: usize) -> Vec<i64> {
    classes.iter().copied().cycle().take(count).collect()
}

/// The schedule that a configuration names, with the time shift of `flow`.
///
/// # Errors
/// If the shift is not positive.
pub fn build_schedule(schedule: Schedule, time_shift: f64) -> Result<Box<dyn NoiseSchedule>, DiffusionError> {
    Ok(match schedule {
        Schedule::Sd => Box::new(ScaledLinear::stable_diffusion()),
        Schedule::VpSde => Box::new(VpSde::cifar10()),
        Schedule::Flow => Box::new(RectifiedFlow::new(time_shift)?),
    })
}
