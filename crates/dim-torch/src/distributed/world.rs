//! All processes of a run, seen from one of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tch::{Device, Kind, Tensor};

use super::group::{Group, Operation, Pending, Work};
use super::handshake::{handshake, opens_store};
use super::heartbeat::Heartbeat;
use super::store::Store;
use crate::{TorchError, cuda};

/// Where a process stands among those of its run, and where they meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// Its number among those of its machine.
    pub local_rank: usize,
    /// The machine of their store.
    pub address: String,
    /// The store's port.
    pub port: u16,
    /// Whether the launcher holds the store, as torchrun does; else rank 0 does.
    pub launcher_holds_store: bool,
    /// How often the launcher has started the run before this.
    pub attempt: u64,
    /// The name of this machine, for messages.
    pub host: String,
}

impl Place {
    pub(super) fn describe(&self) -> String {
        format!("rank {} of {} on {}, at {}:{},", self.rank, self.size, self.host, self.address, self.port)
    }
}

/// How long to wait for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until all have joined.
    pub start: Duration,
    /// In any operation, for the slowest.
    pub operation: Duration,
}

/// The processes of a run, or a part of them. All of them call the same operations in the same order.
#[derive(Clone)]
pub struct World {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    run: Arc<Run>,
    rank: usize,
    size: usize,
    /// Between CPUs.
    gloo: Group,
    /// Between GPUs.
    nccl: Option<Group>,
    /// What [`World::part`] has made of it.
    parts: Mutex<Vec<World>>,
}

/// What all processes of a run have in common, whatever part they work in.
struct Run {
    place: Place,
    /// The machine of every rank.
    hosts: Vec<String>,
    store: Store,
    heartbeat: Heartbeat,
    timeout: Duration,
    /// How often groups were made.
    groups: AtomicUsize,
}

impl Run {
    /// The groups of processes that meet under the name `key`, of which this is `rank` of `size`.
    fn groups(&self, key: &str, on_gpu: bool, place: (usize, usize)) -> Result<(Group, Option<Group>), TorchError> {
        let meet = |name: &str, on_gpu| {
            let part = self.store.part(&format!("{key}{name}"))?;
            Group::join(&part, on_gpu, place, self.timeout).map_err(|error| {
                let problem = format!("no {name} group ({error})");
                TorchError::Join { who: self.place.describe(), problem }
            })
        };
        let gloo = meet("gloo", false)?;
        Ok((gloo, on_gpu.then(|| meet("nccl", true)).transpose()?))
    }
}

impl World {
    /// Joins the other processes of a run; returns when all are there and say the same `identity`: lines that name the program's
    /// version and everything that all must agree on.
    ///
    /// # Errors
    /// [`TorchError::Join`] if they do not meet in time, naming the ranks that are missing, or two have one rank;
    /// [`TorchError::Disagreement`] with every line that differs.
    pub fn join(place: &Place, device: Device, identity: &str, timeouts: Timeouts) -> Result<Self, TorchError> {
        let failed = |problem: String| TorchError::Join { who: place.describe(), problem };
        if place.rank >= place.size {
            return Err(failed(format!("its rank must be below the number of processes, {}", place.size)));
        }
        let opens = place.rank == 0 && !place.launcher_holds_store;
        let connect = || {
            Store::connect(&place.address, place.port, opens, timeouts.start).map_err(|error| {
                let what = if opens { "the port cannot be opened" } else { "nobody answers there" };
                failed(format!("{what} within {} s ({error})", timeouts.start.as_secs_f64()))
            })
        };
        let root = connect()?;
        let store = root.part(&format!("dim/{}", place.attempt))?;
        let hosts = handshake(&store, place, identity, timeouts.start)?;

        // A store answers one request of a connection at a time, and the heart must not wait for others.
        let own = Store::connect(&place.address, place.port, false, timeouts.start)?;
        let heartbeat = Heartbeat::start(own.part(&format!("dim/{}", place.attempt))?, place.rank)?;
        if let Device::Cuda(ordinal) = device {
            cuda::set_device(ordinal)?;
        }
        let (timeout, groups) = (timeouts.operation, AtomicUsize::new(0));
        let run = Arc::new(Run { place: place.clone(), hosts, store, heartbeat, timeout, groups });
        let (rank, size) = (place.rank, place.size);
        let (gloo, nccl) = run.groups("", device.is_cuda(), (rank, size))?;
        Ok(Self { inner: Arc::new(Inner { run, rank, size, gloo, nccl, parts: Mutex::default() }) })
    }

    /// Of groups of `size` processes with neighbouring ranks, the one of this process, whose ranks there begin at 0 again. [`World::leave`] leaves it, too.
    ///
    /// # Errors
    /// A number that does not divide that of the processes; [`TorchError::Join`] if the others do not come.
    pub fn part(&self, size: usize) -> Result<Self, TorchError> {
        let Inner { run, rank, size: all, nccl, .. } = &*self.inner;
        if size == 0 || !all.is_multiple_of(size) {
            return Err(TorchError::Argument {
                operation: "part",
                argument: "size",
                expected: format!("a divisor of the number of processes, {all}"),
                got: size.to_string(),
            });
        }
        if size == *all {
            return Ok(self.clone());
        }
        let key = format!("part/{}/{}/", run.groups.fetch_add(1, Ordering::Relaxed), rank / size);
        let (gloo, nccl) = run.groups(&key, nccl.is_some(), (rank % size, size))?;
        let (run, rank) = (Arc::clone(run), rank % size);
        let part = Self { inner: Arc::new(Inner { run, rank, size, gloo, nccl, parts: Mutex::default() }) };
        self.inner.parts.lock().unwrap_or_else(PoisonError::into_inner).push(part.clone());
        Ok(part)
    }

    /// The number of this process, from 0.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.inner.rank
    }

    /// How many processes there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.inner.size
    }

    /// Whether this is the process that speaks and writes for all.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Adds up `tensor` over all processes, in place.
    ///
    /// # Errors
    /// [`TorchError::LostPeer`], here or in [`Pending::wait`]; so for all operations.
    pub fn all_reduce(&self, tensor: &Tensor) -> Result<Pending, TorchError> {
        self.start(Operation::AllReduceSum, tensor, None, 0)
    }

    /// Adds up `tensor` over all processes; the sum is at `root`, and elsewhere `tensor` is of no use any more.
    ///
    /// # Errors
    /// As [`World::all_reduce`].
    pub fn reduce(&self, tensor: &Tensor, root: usize) -> Result<Pending, TorchError> {
        self.start(Operation::ReduceSum, tensor, None, root)
    }

    /// Copies `tensor` from `root` to all, in place.
    ///
    /// # Errors
    /// As [`World::all_reduce`].
    pub fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<Pending, TorchError> {
        self.start(Operation::Broadcast, tensor, None, root)
    }

    /// Copies each tensor from the rank beside it to all, in place; on GPUs as one operation. Empty ones stay as they are.
    ///
    /// # Errors
    /// As [`World::all_reduce`].
    pub fn broadcasts(&self, tensors: &[(usize, Tensor)]) -> Result<Vec<Pending>, TorchError> {
        let operation = Operation::Broadcast;
        let full: Vec<(usize, &Tensor)> =
            tensors.iter().filter(|(_, tensor)| tensor.numel() > 0).map(|(root, tensor)| (*root, tensor)).collect();
        match full.first() {
            None => Ok(Vec::new()),
            Some((_, first)) if first.device().is_cuda() => {
                let started = self.group_of(operation, first)?.start_broadcasts(&full);
                Ok(vec![self.pending(operation, started)?])
            }
            Some(_) => full.into_iter().map(|(root, tensor)| self.broadcast(tensor, root)).collect(),
        }
    }

    /// Writes the `part`s of all processes one after the other into `whole`, of which this one's may be a view; both without gaps.
    ///
    /// # Errors
    /// As [`World::all_reduce`].
    pub fn all_gather(&self, whole: &Tensor, part: &Tensor) -> Result<Pending, TorchError> {
        // Gloo compares shapes: those of as many pieces as there are processes with the part's.
        let (whole, part) = (whole.f_view([-1])?, part.f_view([-1])?);
        self.start(Operation::AllGather, &whole, Some(&part), 0)
    }

    /// Starts to tell all processes `own`, which has no gaps: `[process, …]`, to be read after the wait.
    ///
    /// # Errors
    /// As [`World::all_reduce`].
    pub fn all_told(&self, own: &Tensor) -> Result<(Tensor, Pending), TorchError> {
        let size = [&[self.size() as i64], &own.size()[..]].concat();
        let all = Tensor::f_empty(size, (own.kind(), own.device()))?;
        let pending = self.all_gather(&all, own)?;
        Ok((all, pending))
    }

    /// Adds up `whole` over all processes and writes the sum's part of this rank into `part`.
    ///
    /// # Errors
    /// As [`World::all_reduce`].
    pub fn reduce_scatter(&self, part: &Tensor, whole: &Tensor) -> Result<Pending, TorchError> {
        self.start(Operation::ReduceScatterSum, part, Some(whole), 0)
    }

    /// Sends `tensor` to `to`, which receives it.
    ///
    /// # Errors
    /// As [`World::all_reduce`].
    pub fn send(&self, tensor: &Tensor, to: usize) -> Result<Pending, TorchError> {
        self.start(Operation::Send, tensor, None, to)
    }

    /// Receives into `tensor` what `from` sends.
    ///
    /// # Errors
    /// As [`World::all_reduce`].
    pub fn receive(&self, tensor: &Tensor, from: usize) -> Result<Pending, TorchError> {
        self.start(Operation::Receive, tensor, None, from)
    }

    /// Sends every process its part of `input`, of `sent[rank]` elements, and receives from each `received[rank]` elements into `output`; both are
    /// of one dimension, with the parts one after the other by rank.
    ///
    /// # Errors
    /// As [`World::all_reduce`].
    pub fn all_to_all(
        &self,
        (output, received): (&Tensor, &[i64]),
        (input, sent): (&Tensor, &[i64]),
    ) -> Result<Pending, TorchError> {
        let operation = Operation::AllToAll;
        for (argument, tensor, parts) in [("output", output, received), ("input", input, sent)] {
            if parts.len() != self.size() || tensor.size() != [parts.iter().sum::<i64>()] {
                let expected = format!("{} parts that fill it", self.size());
                let got = format!("the parts {parts:?} of the shape {:?}", tensor.size());
                return Err(TorchError::Argument { operation: operation.name(), argument, expected, got });
            }
        }
        let started = self.group_of(operation, output)?.start_all_to_all((output, received), (input, sent));
        self.pending(operation, started)
    }

    /// The largest of every number over all processes; waits for them.
    ///
    /// # Errors
    /// As [`World::all_reduce`].
    pub fn largest(&self, numbers: &[i64]) -> Result<Vec<i64>, TorchError> {
        let tensor = Tensor::f_from_slice(numbers)?;
        self.start(Operation::AllReduceMax, &tensor, None, 0)?.wait()?;
        Ok(Vec::try_from(&tensor)?)
    }

    /// Every process's numbers, by rank; all have as many. Waits for them.
    ///
    /// # Errors
    /// As [`World::all_reduce`].
    pub fn gather(&self, numbers: &[i64]) -> Result<Vec<Vec<i64>>, TorchError> {
        let part = Tensor::f_from_slice(numbers)?;
        let whole = Tensor::f_zeros([(numbers.len() * self.size()) as i64], (Kind::Int64, Device::Cpu))?;
        self.all_gather(&whole, &part)?.wait()?;
        let all: Vec<i64> = Vec::try_from(&whole)?;
        Ok(all.chunks(numbers.len().max(1)).map(<[i64]>::to_vec).collect())
    }

    /// Waits until all processes are here.
    ///
    /// # Errors
    /// As [`World::all_reduce`].
    pub fn barrier(&self) -> Result<(), TorchError> {
        self.largest(&[0]).map(drop)
    }

    /// Ends the common work: nobody leaves before all have come here.
    ///
    /// # Errors
    /// As [`World::all_reduce`].
    pub fn leave(self) -> Result<(), TorchError> {
        self.barrier()?;
        let parts = std::mem::take(&mut *self.inner.parts.lock().unwrap_or_else(PoisonError::into_inner));
        for Inner { gloo, nccl, .. } in parts.iter().map(|part| &*part.inner) {
            nccl.as_ref().map_or(Ok(()), Group::leave)?;
            gloo.leave()?;
        }
        if let Some(nccl) = &self.inner.nccl {
            nccl.leave()?;
        }
        // The store closes with rank 0, and the others' groups must be gone by then.
        self.barrier()?;
        self.inner.gloo.leave()
    }

    fn start(
        &self,
        operation: Operation,
        tensor: &Tensor,
        input: Option<&Tensor>,
        peer: usize,
    ) -> Result<Pending, TorchError> {
        let started = self.group_of(operation, tensor)?.start(operation, tensor, input, peer);
        self.pending(operation, started)
    }

    /// The group of the device that a tensor is on.
    fn group_of(&self, operation: Operation, tensor: &Tensor) -> Result<&Group, TorchError> {
        match (tensor.device(), &self.inner.nccl) {
            (Device::Cuda(_), Some(nccl)) => Ok(nccl),
            (Device::Cpu, _) => Ok(&self.inner.gloo),
            (device, _) => Err(TorchError::Argument {
                operation: operation.name(),
                argument: "tensor",
                expected: "on the device that this process joined with, or on the CPU".to_owned(),
                got: format!("on {device:?}"),
            }),
        }
    }

    fn pending(&self, operation: Operation, started: Result<Work, TorchError>) -> Result<Pending, TorchError> {
        let work = started.map_err(|error| self.inner.explained(operation.name(), error))?;
        Ok(Pending { work, operation, world: Arc::clone(&self.inner) })
    }
}

impl Inner {
    /// An error of an operation, with the names of those who are gone.
    pub(super) fn explained(&self, operation: &'static str, error: TorchError) -> TorchError {
        let Run { place, hosts, store, heartbeat, .. } = &*self.run;
        let name = |rank: usize| format!("rank {rank} ({})", hosts[rank]);
        let lost = match heartbeat.lost(store, place.size, opens_store(place), name) {
            Ok(None) => "all processes are alive; one of them is late, or stopped at another operation".to_owned(),
            Ok(Some(lost)) => format!("lost {lost}"),
            Err(_) if place.launcher_holds_store => {
                format!("lost the launcher's store on {}", place.address)
            }
            Err(_) => format!("lost {}, which held the store", name(0)),
        };
        let (rank, host) = (place.rank, place.host.clone());
        TorchError::LostPeer { operation, rank, host, lost, message: error.to_string() }
    }
}
