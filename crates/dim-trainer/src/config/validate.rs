//! Whether the values of a configuration make sense together; every problem is told at once.

use dim_data::{DataConfig, DataError};
use dim_diffusion::Prediction;

use super::{Config, Diffusion, Ema, Evaluation, Sample, Schedule, Split, Train};
use crate::cli::Metric;
use crate::ema::PowerProfile;
use dim_model::BackboneConfig;

/// One line a problem, each naming its key, what it must be and what it is.
pub(super) fn problems(config: &Config) -> Vec<String> {
    let mut problems = Problems::default();
    if let Err(error) = config.model.validate() {
        problems.lines.extend(error.problems.into_iter().map(|problem| format!("[model] {problem}")));
    }
    data(config, &mut problems);
    let dropout = config.diffusion.class_dropout;
    problems.require("diffusion.class_dropout", (0.0..=1.0).contains(&dropout), "a probability from 0 to 1", dropout);
    problems.require(
        "diffusion.class_dropout",
        dropout == 0.0 || config.model.classes() == 0 || config.model.null_class().is_some(),
        "0 for a network without a label that means \"no class\"",
        dropout,
    );
    diffusion(&config.diffusion, &mut problems);
    train(&config.train, &mut problems);
    other_sizes(config, &mut problems);
    sequence_parallel(config, &mut problems);
    split_parameters(config, &mut problems);
    if let Some(section) = &config.ema {
        ema(section, &mut problems);
    }
    sample(&config.sample, config, &mut problems);
    if let Some(section) = &config.evaluation {
        evaluation(section, config, &mut problems);
    }
    problems.lines
}

/// What is wrong with `[data]` by itself.
pub(super) fn data_section(data: &DataConfig, problems: &mut Problems) {
    match data.validate() {
        Ok(()) => {}
        Err(DataError::InvalidConfig { problems: found }) => {
            problems.lines.extend(found.into_iter().map(|problem| format!("[data] {problem}")))
        }
        Err(error) => problems.lines.push(format!("[data] {error}")),
    }
}

fn data(config: &Config, problems: &mut Problems) {
    data_section(&config.data, problems);
    let channels = config.model.in_channels();
    match &config.autoencoder {
        Some(autoencoder) => match autoencoder.problems() {
            found if found.is_empty() => problems.require(
                "model.in_channels",
                channels == autoencoder.latent_channels(),
                &format!("{}, the channels of the autoencoder's latents", autoencoder.latent_channels()),
                channels,
            ),
            found => problems.lines.extend(found),
        },
        None if config.data.is_latents() => problems.lines.push(
            "`data.source` is one of latents, so the section [autoencoder] must say what they are latents of"
                .to_owned(),
        ),
        None => problems.require(
            "model.in_channels",
            channels == config.data.channels(),
            &format!("{}, the channels of the images", config.data.channels()),
            channels,
        ),
    }
}

fn diffusion(diffusion: &Diffusion, problems: &mut Problems) {
    let is_flow = diffusion.schedule == Schedule::Flow;
    problems.require(
        "diffusion.schedule",
        is_flow || diffusion.prediction != Prediction::Flow,
        "flow when diffusion.prediction is flow: that is the velocity of straight paths",
        if diffusion.schedule == Schedule::Sd { "sd" } else { "vp_sde" },
    );
    let shift = diffusion.time_shift;
    problems.require("diffusion.time_shift", shift > 0.0 && shift.is_finite(), "positive", shift);
    problems.require("diffusion.time_shift", is_flow || shift == 1.0, "1 unless diffusion.schedule is flow", shift);
    let checks =
        [("loss_weight", diffusion.loss_weight.validate()), ("time_sampling", diffusion.time_sampling.validate())];
    for (key, check) in checks {
        if let Err(error) = check {
            problems.lines.push(format!("`diffusion.{key}`: {error}"));
        }
    }
}

pub(super) fn train(train: &Train, problems: &mut Problems) {
    let batch = train.batch_size;
    problems.require("train.batch_size", batch >= 1, "at least 1", batch);
    problems.require("train.images", train.images >= batch as u64, "at least one batch", train.images);
    if let Some(micro) = train.micro_batch_size {
        problems.require(
            "train.micro_batch_size",
            micro >= 1 && batch.is_multiple_of(micro),
            &format!("at least 1 and divide train.batch_size = {batch}"),
            micro,
        );
    }
    problems.require("train.lr", train.lr > 0.0 && train.lr.is_finite(), "positive", train.lr);
    for (key, decay) in
        [("train.beta1", train.beta1), ("train.beta2", train.beta2), ("train.ema_decay", train.ema_decay)]
    {
        problems.require(key, (0.0..1.0).contains(&decay), "from 0 to below 1", decay);
    }
    problems.require("train.eps", train.eps > 0.0 && train.eps.is_finite(), "positive", train.eps);
    problems.require(
        "train.weight_decay",
        train.weight_decay >= 0.0 && train.weight_decay.is_finite(),
        "0 or more",
        train.weight_decay,
    );
    if let Some(norm) = train.clip_norm {
        problems.require("train.clip_norm", norm > 0.0, "positive; leave it out for no clipping", norm);
    }
    if let Some(threads) = train.threads {
        problems.require("train.threads", (1..=MAX_THREADS).contains(&threads), "from 1 to 1024", threads);
    }
    problems.require("train.log_every_steps", train.log_every_steps >= 1, "at least 1", train.log_every_steps);
    problems.require(
        "train.checkpoint_every_images",
        train.checkpoint_every_images >= 1,
        "at least 1",
        train.checkpoint_every_images,
    );
    let together = &train.distributed;
    let sharing = together.sequence_parallel;
    problems.require("train.distributed.sequence_parallel", sharing >= 1, "at least 1", sharing);
    for (key, value) in [
        ("train.distributed.bucket_mb", together.bucket_mb),
        ("train.distributed.start_timeout_s", together.start_timeout_s),
        ("train.distributed.timeout_s", together.timeout_s),
    ] {
        problems.require(key, value > 0.0 && value <= MAX_DURATION_S, "positive, at most 1e9", value);
    }
    problems.require("train.keep_checkpoints", train.keep_checkpoints >= 1, "at least 1", train.keep_checkpoints);
    problems.require(
        "train.snapshot_every_images",
        train.snapshot_every_images != Some(0),
        "at least 1; leave it out for one at the end",
        0,
    );
}

/// Whether the network can run with slices of its parameters, if it is to.
fn split_parameters(config: &Config, problems: &mut Problems) {
    let split = config.train.distributed.split == Split::Parameters;
    let expected = "none, optimizer or gradients for this network: parameters are split for DiM alone";
    let possible = !split || !config.model.parameter_units().is_empty();
    problems.require("train.distributed.split", possible, expected, "parameters");
}

/// Whether every image can be split over as many processes as are to share it.
fn sequence_parallel(config: &Config, problems: &mut Problems) {
    let sharing = config.train.distributed.sequence_parallel;
    if sharing <= 1 || config.model.validate().is_err() {
        return;
    }
    let sizes = std::iter::once(config.model.image_size()).chain(config.train.other_image_sizes.iter().copied());
    let refused = sizes.filter_map(|size| Some((size, config.model.check_split(size, size, sharing).err()?)));
    for (size, error) in refused {
        problems.lines.push(format!("`train.distributed.sequence_parallel` is {sharing}, at {size} x {size}: {error}"));
    }
}

fn other_sizes(config: &Config, problems: &mut Problems) {
    let (sizes, multiple) = (&config.train.other_image_sizes, config.model.size_multiple());
    problems.require(
        "train.other_image_sizes",
        sizes.is_empty() || !config.data.is_latents(),
        "empty for latents on disk, which have one size; images are encoded at every size",
        format!("{sizes:?}"),
    );
    for (index, &size) in sizes.iter().enumerate() {
        problems.require(
            "train.other_image_sizes",
            size > 0 && size.is_multiple_of(multiple) && size <= MAX_SIZE,
            &format!("multiples of {multiple} up to {MAX_SIZE}"),
            size,
        );
        let repeated = size == config.model.image_size() || sizes[..index].contains(&size);
        problems.require("train.other_image_sizes", !repeated, "sizes other than `model.image_size`, each once", size);
    }
}

fn ema(ema: &Ema, problems: &mut Problems) {
    let listed = format!("{:?}", ema.sigma_rel);
    problems.require("ema.sigma_rel", !ema.sigma_rel.is_empty(), "one width or more", &listed);
    let repeated = |(index, width): (usize, &f64)| ema.sigma_rel[..index].contains(width);
    problems.require("ema.sigma_rel", !ema.sigma_rel.iter().enumerate().any(repeated), "different widths", &listed);
    for &width in &ema.sigma_rel {
        let expected = format!("above 0 and at most {:.4}", PowerProfile::max_sigma_rel());
        problems.require("ema.sigma_rel", PowerProfile::from_sigma_rel(width).is_some(), &expected, width);
    }
    problems.require("ema.update_every_steps", ema.update_every_steps >= 1, "at least 1", ema.update_every_steps);
    let every = ema.snapshot_every_images;
    problems.require("ema.snapshot_every_images", every >= 1, "at least 1", every);
}

fn sample(sample: &Sample, config: &Config, problems: &mut Problems) {
    problems.require(
        "sample.every_images",
        sample.every_images != Some(0),
        "at least 1; leave it out for no pictures while training",
        0,
    );
    for (key, size) in [("sample.rows", sample.rows), ("sample.columns", sample.columns)] {
        problems.require(key, (1..=MAX_GRID).contains(&size), "from 1 to 256", size);
    }
    problems.require("sample.cfg_scale", sample.cfg_scale.is_finite(), "a finite number", sample.cfg_scale);
    let guided = sample.cfg_scale != 1.0;
    problems.require(
        "sample.cfg_scale",
        !guided || !config.unconditional(),
        "1 for a network trained without classes: there is nothing to guide to",
        sample.cfg_scale,
    );
    problems.require(
        "sample.cfg_scale",
        !guided || config.diffusion.class_dropout > 0.0,
        "1 when diffusion.class_dropout is 0: guidance needs a network that also learnt to do without classes",
        sample.cfg_scale,
    );
    if let Err(error) = sample.sampler.validate() {
        problems.lines.push(format!("[sample.sampler] {error}"));
    }
}

fn evaluation(evaluation: &Evaluation, config: &Config, problems: &mut Problems) {
    let every = evaluation.every_images;
    problems.require("evaluation.every_images", every >= 1, "at least 1", every);
    problems.require("evaluation.samples", evaluation.samples >= 2, "at least 2", evaluation.samples);
    let has_distance = evaluation.metrics.contains(&Metric::Fd);
    problems.require("evaluation.metrics", has_distance, "a list with \"fd\"", format!("{:?}", evaluation.metrics));
    let scales = &evaluation.cfg_scales;
    let good = !scales.is_empty() && scales.iter().all(|scale| scale.is_finite());
    problems.require("evaluation.cfg_scales", good, "one finite number or more", format!("{scales:?}"));
    let guided = scales.iter().any(|scale| *scale != 1.0);
    problems.require(
        "evaluation.cfg_scales",
        !guided || (!config.unconditional() && config.diffusion.class_dropout > 0.0),
        "[1] for a network that was not trained both with classes and without",
        format!("{scales:?}"),
    );
}

const MAX_THREADS: usize = 1024;
/// Seconds, and megabytes: more than anybody has.
const MAX_DURATION_S: f64 = 1e9;
const MAX_GRID: usize = 256;
const MAX_SIZE: usize = 4096;

#[derive(Default)]
pub(super) struct Problems {
    pub(super) lines: Vec<String>,
}

impl Problems {
    pub(super) fn require(&mut self, key: &str, holds: bool, expected: &str, got: impl std::fmt::Display) {
        if !holds {
            self.lines.push(format!("`{key}` must be {expected}, got {got}"));
        }
    }
}
