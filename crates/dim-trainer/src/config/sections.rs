//! The sections of a configuration that belong to the trainer; `[model]` is `dim-model`'s, `[data]` is `dim-data`'s.

use std::path::PathBuf;

use dim_diffusion::Prediction;
use dim_diffusion::objective::{LossWeight, ObjectiveOptions, TimeSampling};
use dim_diffusion::sampler::{DpmSolverOptions, Sampler};
use serde::{Deserialize, Serialize};

use crate::cli::{FeaturesName, Metric, PreprocessingName};

/// `[diffusion]`: the noise schedule and the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diffusion {
    /// The noise schedule.
    pub schedule: Schedule,
    /// What the network's output stands for.
    #[serde(default)]
    pub prediction: Prediction,
    /// Probability with which a label is replaced by "no class"; 1 trains without classes.
    pub class_dropout: f64,
    /// Tell the network its time rounded to bf16, as in the authors' training on latents.
    #[serde(default)]
    pub round_time_to_bf16: bool,
    /// How much the error of each time counts: `"uniform"`, or `{ min_snr = { gamma = 5.0 } }`.
    #[serde(default)]
    pub loss_weight: LossWeight,
    /// Which times are drawn: `"uniform"`, or `{ logit_normal = { mean = 0.0, std = 1.0 } }`.
    #[serde(default)]
    pub time_sampling: TimeSampling,
    /// Of schedule `flow`: how many times the odds of noise are raised, for images of `model.image_size`. Stable Diffusion 3 shifts by the
    /// side of the image over that of images for which 1 is right.
    #[serde(default = "no_shift")]
    pub time_shift: f64,
}

impl Diffusion {
    /// The part that the loss needs.
    pub fn objective(&self) -> ObjectiveOptions {
        ObjectiveOptions {
            class_dropout: self.class_dropout,
            round_time_to_bf16: self.round_time_to_bf16,
            loss_weight: self.loss_weight,
            time_sampling: self.time_sampling,
        }
    }
}

/// The noise schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Stable Diffusion's: 1000 steps, the roots of beta linear from 0.00085 to 0.012.
    Sd,
    /// The variance-preserving SDE of Song et al. (arXiv 2011.13456): beta linear from 0.1 to 20.
    VpSde,
    /// Rectified flow (Liu et al., arXiv 2209.03003): straight from image to noise; the network is told 1000 times the share of noise.
    Flow,
}

/// `[train]`: the optimiser and the run's bookkeeping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Training ends when this many images have been seen.
    pub images: u64,
    /// Images in one optimiser step.
    pub batch_size: usize,
    /// Images that go through the network at once; the gradients of a step's pieces are added up. By default all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch_size: Option<usize>,
    /// Besides `model.image_size`: each batch has one of all these sides, drawn evenly. In pixels of the network's input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_image_sizes: Vec<usize>,
    /// Peak learning rate.
    pub lr: f64,
    /// The learning rate climbs from 0 to its peak over this many images.
    pub warmup_images: u64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// What it reaches.
    #[serde(default)]
    pub weight_decay_on: WeightDecayOn,
    /// Largest norm of the gradient; absent: no clipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Decay of the moving average of the weights, applied at every step.
    pub ema_decay: f64,
    /// The average begins with the decay `(1 + steps) / (10 + steps)` while that is less, and so forgets the fresh weights in short runs, too.
    #[serde(default)]
    pub ema_warmup: bool,
    /// Show every image mirrored in half of the cases.
    pub random_flip: bool,
    /// Broken image files to bear; one more ends the run.
    #[serde(default = "max_broken_files")]
    pub max_broken_files: usize,
    /// Everything random in the run follows from it.
    #[serde(default)]
    pub seed: u64,
    /// What the wide matrix products are computed in.
    #[serde(default)]
    pub precision: Precision,
    /// So many blocks keep their inputs alone for backward, and run again in it: less memory, more time. More than there are: all.
    #[serde(default)]
    pub recompute_blocks: usize,
    /// DiM in bf16: the scans of all other blocks run again in backward.
    #[serde(default)]
    pub recompute_scan: bool,
    /// CPU threads; absent: one for each physical core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Start from these weights instead of fresh ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_weights: Option<PathBuf>,
    /// A line in the logs every so many steps. Reading the loss waits for the device, so this is not 1 on a GPU.
    #[serde(default = "log_every_steps")]
    pub log_every_steps: u64,
    /// A checkpoint every so many images, and one at the end.
    pub checkpoint_every_images: u64,
    /// How many checkpoints are kept; older ones are deleted.
    #[serde(default = "keep_checkpoints")]
    pub keep_checkpoints: usize,
    /// A snapshot (weights for inference, never deleted) every so many images; absent: only one at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_every_images: Option<u64>,
    /// How several processes train together.
    #[serde(default, skip_serializing_if = "Distributed::is_default")]
    pub distributed: Distributed,
}

/// `[train.distributed]`: how several processes train together; without meaning for one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distributed {
    /// What each process keeps a slice of instead of all.
    pub split: Split,
    /// So many processes with neighbouring ranks share every image, each a strip of its tokens; they must divide the number of processes. DiM only.
    pub sequence_parallel: usize,
    /// In what gradients travel.
    pub reduce_in: ReduceIn,
    /// Gradients travel in pieces of so many megabytes (of f32) at most, of whole layers where these fit: each with the first gradient after it is complete.
    pub bucket_mb: f64,
    /// How long to wait for other processes, in seconds: until all have started.
    pub start_timeout_s: f64,
    /// And for the slowest, in all that is done together. Long, for one draws pictures and writes files while the others wait.
    pub timeout_s: f64,
}

impl Train {
    /// The share that the fresh weights keep in the moving average to the end.
    pub fn share_of_fresh_weights(&self) -> f64 {
        let steps = self.images.div_ceil(self.batch_size.max(1) as u64);
        // A warm-up forgets them within some twenty steps.
        if self.ema_warmup { 0.0 } else { self.ema_decay.powf(steps as f64) }
    }
}

impl Default for Distributed {
    fn default() -> Self {
        Self {
            split: Split::None,
            sequence_parallel: 1,
            reduce_in: ReduceIn::F32,
            bucket_mb: 100.0,
            start_timeout_s: 300.0,
            timeout_s: 1800.0,
        }
    }
}

impl Distributed {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which parameters decay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightDecayOn {
    /// Every one, as in the paper's training.
    #[default]
    All,
    /// The weights of linear maps and convolutions: no biases, norms, tables, learnt tokens, nor Mamba's A and D.
    Matrices,
}

/// What is split between processes. Rajbhandari et al., arXiv 1910.02054.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Nothing.
    #[default]
    None,
    /// The optimiser's moments and all averages of the weights: ZeRO's first stage.
    Optimizer,
    /// And the gradients: ZeRO's second stage. With pieces of a batch, gradients travel after each.
    Gradients,
    /// And the parameters, of which a block's are gathered where it runs, forward and again backward: its third stage. DiM only.
    Parameters,
}

/// In what gradients travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReduceIn {
    /// f32, as they are computed.
    #[default]
    F32,
    /// bf16: half the bytes, at three digits.
    Bf16,
}

/// `[ema]`: averages of the weights under power-function profiles (EDM2, arXiv 2312.02696), beside that of `train.ema_decay`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ema {
    /// Standard deviations of the profiles, in lengths of the run. Each costs the memory of the weights once.
    #[serde(default = "sigma_rel")]
    pub sigma_rel: Vec<f64>,
    /// The averages take in the weights of every so many optimiser steps; those between are left out.
    #[serde(default = "one")]
    pub update_every_steps: u64,
    /// The averages are stored every so many images, and at the end. Some tens of times in a run give every other profile.
    pub snapshot_every_images: u64,
}

/// `[evaluation]`: how good the samples of the moving average are, measured while training; on the same noise every time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Measure every so many images, and at the end.
    pub every_images: u64,
    /// Samples that are drawn for it, of all classes in turn. Distances of different numbers do not compare.
    pub samples: usize,
    /// What they are judged by: a folder of images, a file of `eval --save-statistics`, or an `.npz` of pytorch-fid or ADM.
    pub reference: PathBuf,
    /// The network whose features are compared.
    #[serde(default = "features")]
    pub features: FeaturesName,
    /// Its trained weights; absent: those that set-up installs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// Of inception: whose resizing.
    #[serde(default)]
    pub preprocessing: PreprocessingName,
    /// What to compute. The Fréchet distance must be among it: the best snapshot is that of the lowest.
    #[serde(default = "metrics")]
    pub metrics: Vec<Metric>,
    /// The noise that the samples start from follows from it.
    #[serde(default)]
    pub seed: u64,
    /// Weights of classifier-free guidance, each by itself; 1 is the plain network. The first decides which snapshot is the best.
    #[serde(default = "no_guidance")]
    pub cfg_scales: Vec<f64>,
}

/// What the wide matrix products are computed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// bf16 where the device has it, else f32.
    #[default]
    Auto,
    /// f32 everywhere.
    F32,
    /// bf16 for products, convolution and scan inputs; norms, states, weights and optimiser in f32.
    Bf16,
}

/// `[sample]`: pictures drawn while training, and the defaults of the `sample` command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sample {
    /// A grid of samples every so many images, and one at the end; absent: none while training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_images: Option<u64>,
    /// Rows of the grid.
    pub rows: usize,
    /// Columns of the grid.
    pub columns: usize,
    /// Weight of classifier-free guidance: 1 is the plain network, the authors' scale is this minus 1.
    pub cfg_scale: f64,
    /// The noise that samples start from follows from it.
    pub seed: u64,
    /// The algorithm and its options.
    pub sampler: Sampler,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            every_images: None,
            rows: 4,
            columns: 8,
            cfg_scale: 1.0,
            seed: 0,
            sampler: Sampler::DpmSolver(DpmSolverOptions::default()),
        }
    }
}

/// The paper's two.
fn sigma_rel() -> Vec<f64> {
    vec![0.05, 0.10]
}

fn features() -> FeaturesName {
    FeaturesName::EfficientnetLite0
}

fn metrics() -> Vec<Metric> {
    vec![Metric::Fd]
}

fn no_guidance() -> Vec<f64> {
    vec![1.0]
}

fn one() -> u64 {
    1
}

fn no_shift() -> f64 {
    1.0
}

fn log_every_steps() -> u64 {
    10
}

fn max_broken_files() -> usize {
    100
}

fn keep_checkpoints() -> usize {
    3
}
