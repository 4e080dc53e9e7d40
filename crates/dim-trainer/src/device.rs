//! Where the computation runs: which device, how many threads, in what precision.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use dim_torch::cuda;
use tch::{Cuda, Device};

use crate::cli::ComputeArgs;
use crate::config;
use crate::error::TrainerError;
use crate::format::counted;
use crate::launch::Launch;

/// What `--device` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU if there is one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("cuda:").map(str::parse)) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(Ok(ordinal))) => Ok(Self::Cuda(ordinal)),
            _ => Err("expected auto, cpu, cuda or cuda:N".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(ordinal) => write!(formatter, "cuda:{ordinal}"),
        }
    }
}

/// Whether samples are drawn by replaying CUDA graphs of the network's calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum CudaGraphs {
    /// On a GPU.
    #[default]
    Auto,
    /// On a GPU, without which this is an error.
    On,
    /// No: the host launches every kernel.
    Off,
}

/// Where a command computes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compute {
    /// The device of every tensor.
    pub device: Device,
    /// CPU threads of libtorch and of our kernels, each.
    pub threads: usize,
}

impl Compute {
    /// Chooses the device and sets the threads: the command line's, else `configured`, else one for each physical core.
    /// Call it once, before any tensor.
    ///
    /// # Errors
    /// [`TrainerError::Usage`] for a GPU that is not there.
    pub(crate) fn start(arguments: ComputeArgs, configured: Option<usize>) -> Result<Self, TrainerError> {
        let threads = start_threads(arguments.threads.map(usize::from).or(configured));
        Ok(Self { device: choose(arguments.device)?, threads })
    }

    /// The same for a process of several on this machine: they share its cores, and without a number of a GPU each takes its own.
    ///
    /// # Errors
    /// [`TrainerError::Usage`] for a GPU that is not there.
    pub(crate) fn start_one_of(
        launch: &Launch,
        arguments: ComputeArgs,
        configured: Option<usize>,
    ) -> Result<Self, TrainerError> {
        let share = (num_cpus::get_physical() / launch.local_size).max(1);
        let threads = start_threads(arguments.threads.map(usize::from).or(configured).or(Some(share)));
        let choice = match arguments.device {
            DeviceChoice::Auto if cuda::start() => {
                // A launcher may show each process its own GPU alone.
                let shown = Cuda::device_count();
                DeviceChoice::Cuda(if shown == 1 { 0 } else { launch.place.local_rank })
            }
            other => other,
        };
        Ok(Self { device: choose(choice)?, threads })
    }

    /// In what the wide products are computed.
    ///
    /// # Errors
    /// [`TrainerError::Usage`] for bf16 on a device that does not have it.
    pub(crate) fn precision(&self, configured: config::Precision) -> Result<dim_model::Precision, TrainerError> {
        match (configured, cuda::has_bf16(self.device)) {
            (config::Precision::F32, _) | (config::Precision::Auto, false) => Ok(dim_model::Precision::F32),
            (_, true) => Ok(dim_model::Precision::Bf16),
            (config::Precision::Bf16, false) => Err(TrainerError::Usage(
                "train.precision = \"bf16\" needs a GPU; use \"auto\" or \"f32\" on this device".to_owned(),
            )),
        }
    }

    /// Whether samples are drawn with CUDA graphs.
    ///
    /// # Errors
    /// [`TrainerError::Usage`] if they are asked for on a CPU.
    pub(crate) fn cuda_graphs(&self, choice: CudaGraphs) -> Result<bool, TrainerError> {
        match choice {
            CudaGraphs::On if !self.device.is_cuda() => {
                Err(TrainerError::Usage(format!("--cuda-graphs on needs a GPU, got {}", name_of(self.device))))
            }
            CudaGraphs::On | CudaGraphs::Auto => Ok(self.device.is_cuda()),
            CudaGraphs::Off => Ok(false),
        }
    }

    /// Waits until the device has done all that it was given.
    pub(crate) fn wait(&self) {
        if let Device::Cuda(ordinal) = self.device {
            Cuda::synchronize(ordinal as i64);
        }
    }

    /// `cpu, 2 threads`, or `cuda:0` with the number of the card.
    pub(crate) fn describe(&self) -> String {
        let name = name_of(self.device);
        if self.device.is_cuda() { name } else { format!("{name}, {}", counted(self.threads, "thread")) }
    }
}

/// `cpu`, or `cuda:0` with the number of the card.
pub(crate) fn name_of(device: Device) -> String {
    match device {
        Device::Cuda(ordinal) => format!("cuda:{ordinal}"),
        _ => kind_of(device).to_owned(),
    }
}

/// Whose arithmetic it is, as files of results say: `cuda` or `cpu`.
pub(crate) fn kind_of(device: Device) -> &'static str {
    if device.is_cuda() { "cuda" } else { "cpu" }
}

/// Sets the threads of libtorch and of our kernels, one for each physical core if `asked` is `None`; returns how many.
pub(crate) fn start_threads(asked: Option<usize>) -> usize {
    let threads = asked.unwrap_or_else(num_cpus::get_physical).max(1);
    tch::set_num_threads(threads as i32);
    // It only fails when a pool exists already; ours is the first.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    threads
}

fn choose(choice: DeviceChoice) -> Result<Device, TrainerError> {
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(if cuda::start() { Device::Cuda(0) } else { Device::Cpu }),
        DeviceChoice::Cuda(ordinal) => {
            let count = if cuda::start() { Cuda::device_count() } else { 0 };
            if (ordinal as i64) < count {
                return Ok(Device::Cuda(ordinal));
            }
            let found = if count == 0 {
                "no GPU that libtorch can use (is the NVIDIA driver installed?)".to_owned()
            } else {
                format!("GPUs 0 to {}", count - 1)
            };
            Err(TrainerError::Usage(format!("--device {choice}: there is {found}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_shown_alike() {
        for text in ["auto", "cpu", "cuda:0", "cuda:7"] {
            assert_eq!(text.parse::<DeviceChoice>().map(|choice| choice.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for text in ["gpu", "cuda:", "cuda:x", "cuda:-1", ""] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn graphs_are_for_gpus() {
        let of = |device| {
            [CudaGraphs::Auto, CudaGraphs::On, CudaGraphs::Off]
                .map(|choice| Compute { device, threads: 1 }.cuda_graphs(choice).ok())
        };
        assert_eq!(of(Device::Cuda(0)), [Some(true), Some(true), Some(false)]);
        assert_eq!(of(Device::Cpu), [Some(false), None, Some(false)]);
    }
}
