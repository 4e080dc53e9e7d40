//! The line that describes a run.

use serde::{Deserialize, Serialize};

/// The version of the format that this crate reads and writes.
pub const VERSION: u32 = 1;

/// What kind of device a run was made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The processor. Such a run shows that everything works, and says nothing about a GPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

/// Models that are compared with each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// What they have in common, such as `equal published size`.
    pub name: String,
    /// A sentence about the choice.
    #[serde(default)]
    pub note: String,
    /// Their names. The first is the one whose ratios to the others are shown.
    pub models: Vec<String>,
}

/// What a run was made on, by what, and what it compares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Of the format: [`VERSION`].
    pub version: u32,
    /// The device's name, such as `NVIDIA H200`.
    pub device: String,
    /// Its kind.
    pub device_kind: DeviceKind,
    /// Version of the GPU's driver; none on a CPU.
    #[serde(default)]
    pub driver: Option<String>,
    /// Version of libtorch.
    pub libtorch: String,
    /// The processor's name.
    pub cpu: String,
    /// Threads that libtorch may use on it.
    pub threads: u32,
    /// Number format of the networks, such as `bf16`.
    pub precision: String,
    /// Commit of this repository.
    pub commit: String,
    /// Day of the run, `2026-11-25`.
    pub date: String,
    /// Small sizes and few repeats: shows that everything works, and no more.
    pub quick: bool,
    /// Text of the TOML file that says what was to be measured.
    pub config: String,
    /// What is compared with what.
    #[serde(default)]
    pub groups: Vec<Group>,
}
