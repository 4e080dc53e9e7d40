//! The page of a training run, or of several side by side: what they are and how far they are, their curves, samples, metrics and files. One
//! HTML file that needs nothing else.

mod curves;
mod page;
mod parts;

pub use page::page;

use serde::{Deserialize, Serialize};

/// A run of training, finished or not.
#[derive(Clone, Debug, Default)]
pub struct TrainingRun {
    /// What it is called beside others: the name of its folder.
    pub name: String,
    /// What is trained on what, in a sentence without its end.
    pub subject: String,
    /// Names and values that hold for all of it.
    pub facts: Vec<(String, String)>,
    /// Images to be seen in all.
    pub images: u64,
    /// Whether it goes on.
    pub state: State,
    /// When the log was written to last, to be read by people.
    pub last_written: String,
    /// What makes the page worth less, a sentence each.
    pub notes: Vec<String>,
    /// The log, in its order.
    pub log: Vec<LogLine>,
    /// How good samples were.
    pub evaluations: Vec<Evaluated>,
    /// Pictures by images seen, some of all.
    pub pictures: Vec<Picture>,
    /// How many pictures there are in all.
    pub pictures_in_all: usize,
    /// When, by what and on what it was trained: each time that training began or went on.
    pub sessions: Vec<Session>,
    /// How the network differs from a preset, if it is like one.
    pub preset: Option<Preset>,
    /// Every key of the configuration with its value.
    pub settings: Vec<(String, String)>,
    /// The configuration as it is read.
    pub config: String,
    /// What the run left for use and for going on.
    pub files: Vec<StoredFile>,
}

/// Whether a run goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It is being trained, or was killed.
    #[default]
    Open,
    /// It was stopped, and can go on: why.
    Stopped(String),
    /// All images were seen, and all that is due at the end is there.
    Finished,
}

/// What is known after a step that is logged; means are over the steps since the line before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// Optimiser steps taken.
    pub step: u64,
    /// Images seen in training so far.
    pub images_seen: u64,
    /// Mean loss.
    pub loss: f64,
    /// Mean norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Training images a second.
    pub images_per_s: f64,
    /// Time spent in training, earlier sessions of the run included.
    pub elapsed_s: f64,
    /// The most bytes that tensors held on a GPU since training began; of several, on the fullest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
}

/// The metrics of one set of samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// Images seen in training.
    pub images_seen: u64,
    /// Weight of guidance; `None` without guidance.
    pub guided_by: Option<f64>,
    /// Number of samples.
    pub samples: u64,
    /// Names and values of the metrics.
    pub scores: Vec<(String, f64)>,
}

/// A picture of what the run can do.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Images seen in training.
    pub images_seen: u64,
    /// A PNG.
    pub png: Vec<u8>,
}

/// A time that training began or went on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    /// Day and time, UTC.
    pub started: String,
    /// Images seen before.
    pub images_seen: u64,
    /// Names and values: program, commit, device, threads, processes.
    pub facts: Vec<(String, String)>,
}

/// A preset that the network is like.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// Its name.
    pub name: String,
    /// Keys, the preset's value and the run's.
    pub differences: Vec<[String; 3]>,
}

/// A file of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredFile {
    /// What it is, such as `checkpoint`.
    pub kind: &'static str,
    /// Where it is in the run's folder.
    pub path: String,
    /// Images seen in training.
    pub images_seen: Option<u64>,
    /// Its length.
    pub bytes: u64,
}
