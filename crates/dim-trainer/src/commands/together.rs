//! The processes that run one command together, as torchrun, Slurm or Open MPI start them. A process that is alone waits for nobody.

use std::env;
use std::fmt::Debug;
use std::time::Duration;

use dim_torch::cuda;
use dim_torch::distributed::{Timeouts, World};
use tch::Device;

use crate::cli::ComputeArgs;
use crate::config::Distributed;
use crate::device::Compute;
use crate::error::TrainerError;
use crate::launch::Launch;

/// This process among those of its command.
pub(super) struct Together {
    /// Where it computes.
    pub(super) compute: Compute,
    /// All of them; `None` for a process that is alone.
    pub(super) world: Option<World>,
}

/// How long to wait for other processes.
fn timeouts(config: &Distributed) -> Timeouts {
    Timeouts {
        start: Duration::from_secs_f64(config.start_timeout_s),
        operation: Duration::from_secs_f64(config.timeout_s),
    }
}

impl Together {
    /// Joins the others, all of which must run the same `command` with the same `arguments`. `threads` are those of the configuration.
    ///
    /// # Errors
    /// [`TrainerError::Usage`] for a launcher's variables that make no sense, or a GPU that is not there; as [`World::join`].
    pub(super) fn start(
        command: &str,
        arguments: &impl Debug,
        (compute, threads): (ComputeArgs, Option<usize>),
        config: &Distributed,
    ) -> Result<Self, TrainerError> {
        let launch = Launch::from_environment(|name| env::var(name).ok())?;
        Self::join(launch.as_ref(), command, &format!("{arguments:#?}"), (compute, threads), config)
    }

    /// The same, as `launch` says, of processes that must agree on the lines `shared`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) fn join(
        launch: Option<&Launch>,
        command: &str,
        shared: &str,
        (compute, threads): (ComputeArgs, Option<usize>),
        config: &Distributed,
    ) -> Result<Self, TrainerError> {
        let Some(launch) = launch else {
            return Ok(Self { compute: Compute::start(compute, threads)?, world: None });
        };
        let compute = Compute::start_one_of(launch, compute, threads)?;
        let identity = format!("program {} {command}\n{shared}", env!("CARGO_PKG_VERSION"));
        let world = World::join(&launch.place, compute.device, &identity, timeouts(config))?;
        Ok(Self { compute, world: Some(world) })
    }

    /// Whether this process speaks and writes for all.
    pub(super) fn leads(&self) -> bool {
        self.world.as_ref().is_none_or(World::leads)
    }

    /// How many processes there are.
    pub(super) fn size(&self) -> usize {
        self.world.as_ref().map_or(1, World::size)
    }

    /// This process's share of pieces of work, which are alike: every one in so many as there are processes.
    pub(super) fn share<T>(&self, pieces: impl Iterator<Item = T>) -> Vec<T> {
        pieces.skip(self.world.as_ref().map_or(0, World::rank)).step_by(self.size()).collect()
    }

    /// Waits until all processes are here.
    ///
    /// # Errors
    /// The name of a process that is lost.
    pub(super) fn wait(&self) -> Result<(), TrainerError> {
        Ok(self.world.as_ref().map_or(Ok(()), World::barrier)?)
    }

    /// What `f` returns, which the leader runs before all others; all go on when the last has run it.
    ///
    /// # Errors
    /// What `f` returns; the name of a process that is lost.
    pub(super) fn leader_first<T>(&self, f: impl FnOnce() -> Result<T, TrainerError>) -> Result<T, TrainerError> {
        if !self.leads() {
            self.wait()?;
        }
        let result = f()?;
        if self.leads() {
            self.wait()?;
        }
        self.wait()?;
        Ok(result)
    }

    /// The sum of every process's number.
    ///
    /// # Errors
    /// The name of a process that is lost.
    pub(super) fn sum(&self, number: usize) -> Result<usize, TrainerError> {
        let Some(world) = &self.world else { return Ok(number) };
        Ok(world.gather(&[number as i64])?.into_iter().flatten().sum::<i64>() as usize)
    }

    /// Where it computes, and as one of how many.
    pub(super) fn describe(&self) -> String {
        match self.size() {
            1 => self.compute.describe(),
            size => format!("{}, one of {size} processes", self.compute.describe()),
        }
    }

    /// The most bytes that tensors held on the fullest of the GPUs.
    ///
    /// # Errors
    /// The name of a process that is lost.
    pub(super) fn peak_memory(&self) -> Result<Option<i64>, TrainerError> {
        let Device::Cuda(ordinal) = self.compute.device else { return Ok(None) };
        let own = i64::try_from(cuda::peak_memory(ordinal)?).unwrap_or(i64::MAX);
        let Some(world) = &self.world else { return Ok(Some(own)) };
        Ok(world.largest(&[own])?.first().copied())
    }

    /// Ends the common work, when all have come here.
    ///
    /// # Errors
    /// The name of a process that is lost.
    pub(super) fn leave(self) -> Result<(), TrainerError> {
        Ok(self.world.map_or(Ok(()), World::leave)?)
    }
}
