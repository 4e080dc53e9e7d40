//! A process's place in a group of c10d, and operations that are under way.

use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tch::Tensor;

use super::store::Store;
use super::world::Inner;
use crate::{TorchError, ffi};

/// What all processes do together; the numbers are those of `cpp/process_group.cpp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Operation {
    AllReduceSum = 0,
    AllReduceMax = 1,
    ReduceSum = 2,
    Broadcast = 3,
    AllGather = 4,
    ReduceScatterSum = 5,
    Send = 6,
    Receive = 7,
    /// Started by a function of its own.
    AllToAll = 8,
}

impl Operation {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AllReduceSum | Self::AllReduceMax => "all_reduce",
            Self::ReduceSum => "reduce",
            Self::Broadcast => "broadcast",
            Self::AllGather => "all_gather",
            Self::ReduceScatterSum => "reduce_scatter",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::AllToAll => "all_to_all",
        }
    }
}

/// A group of Gloo's or NCCL's. Dropping it frees nothing: a group that was not left has operations that may never end, its destructor
/// would wait for them, and the process that failed is about to end anyway.
pub(super) struct Group {
    /// `None` once the group was left.
    handle: Mutex<Option<Handle>>,
}

struct Handle(*mut c_void);

// SAFETY: libtorch's groups belong to no thread; the lock around the handle lets one use it at a time.
unsafe impl Send for Handle {}

impl Group {
    /// Joins a group of `size` processes that meet in `store`.
    pub(super) fn join(
        store: &Store,
        on_gpu: bool,
        (rank, size): (usize, usize),
        timeout: Duration,
    ) -> Result<Self, TorchError> {
        let timeout = i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX);
        let mut handle = std::ptr::null_mut();
        // SAFETY: the callee keeps a reference of its own to the store, and writes one pointer to `handle` or returns a message.
        store.with(|store| unsafe {
            ffi::dim_group_new(store, on_gpu, rank as i32, size as i32, timeout, &raw mut handle)
        })?;
        Ok(Self { handle: Mutex::new(Some(Handle(handle))) })
    }

    /// Starts an operation on `tensor`; `input` is what gathering and scattering read, `peer` the other rank or the root.
    pub(super) fn start(
        &self,
        operation: Operation,
        tensor: &Tensor,
        input: Option<&Tensor>,
        peer: usize,
    ) -> Result<Work, TorchError> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(group) = &*handle else { return Err(left()) };
        let input_pointer = input.map_or(std::ptr::null(), |input| input.as_ptr());
        let mut work = std::ptr::null_mut();
        // SAFETY: the tensors are alive during the call, and afterwards `Work` holds a reference to each. The callee writes one
        // pointer to `work` or returns a message.
        ffi::check(unsafe {
            ffi::dim_group_start(group.0, operation as u8, tensor.as_ptr(), input_pointer, peer as i32, &raw mut work)
        })?;
        let tensors = [Some(tensor), input].into_iter().flatten().map(Tensor::shallow_clone).collect();
        Ok(Work { handle: work, _tensors: tensors })
    }

    /// Starts to copy each tensor from its rank to all, as one operation of NCCL's.
    pub(super) fn start_broadcasts(&self, tensors: &[(usize, &Tensor)]) -> Result<Work, TorchError> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(group) = &*handle else { return Err(left()) };
        let pointers: Vec<_> = tensors.iter().map(|(_, tensor)| tensor.as_ptr()).collect();
        let roots: Vec<i32> = tensors.iter().map(|&(root, _)| root as i32).collect();
        let mut work = std::ptr::null_mut();
        // SAFETY: as in `start`; both lists have as many entries as is said, which are read during the call.
        ffi::check(unsafe {
            ffi::dim_group_broadcasts(group.0, pointers.as_ptr(), roots.as_ptr(), tensors.len(), &raw mut work)
        })?;
        Ok(Work { handle: work, _tensors: tensors.iter().map(|(_, tensor)| tensor.shallow_clone()).collect() })
    }

    /// Starts to send every process its part of `input`, of `sent[rank]` elements, and to receive `received[rank]` from each into `output`.
    pub(super) fn start_all_to_all(
        &self,
        (output, received): (&Tensor, &[i64]),
        (input, sent): (&Tensor, &[i64]),
    ) -> Result<Work, TorchError> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(group) = &*handle else { return Err(left()) };
        let size = received.len().min(sent.len());
        let mut work = std::ptr::null_mut();
        // SAFETY: as in `start`; both lists have `size` numbers, which are read during the call.
        ffi::check(unsafe {
            ffi::dim_group_all_to_all(
                group.0,
                output.as_ptr(),
                input.as_ptr(),
                received.as_ptr(),
                sent.as_ptr(),
                size,
                &raw mut work,
            )
        })?;
        Ok(Work { handle: work, _tensors: vec![output.shallow_clone(), input.shallow_clone()] })
    }

    /// Leaves the group, all of whose operations have ended.
    pub(super) fn leave(&self) -> Result<(), TorchError> {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        // SAFETY: the handle came from `dim_group_new` and is freed once: it was taken out.
        handle.map_or(Ok(()), |handle| ffi::check(unsafe { ffi::dim_group_free(handle.0) }))
    }
}

fn left() -> TorchError {
    TorchError::Libtorch("this process has left the group".to_owned())
}

/// An operation of a group that may still be under way, and the tensors it works on.
pub(super) struct Work {
    handle: *mut c_void,
    _tensors: Vec<Tensor>,
}

// SAFETY: libtorch's works belong to no thread, and neither do tensors, whose counts of references are atomic.
unsafe impl Send for Work {}

impl Work {
    pub(super) fn wait(&self) -> Result<(), TorchError> {
        // SAFETY: the handle is alive. Waiting twice is allowed.
        ffi::check(unsafe { ffi::dim_work_wait(self.handle) })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: the handle came from `dim_group_start` and is freed once, here; the operation itself holds what it needs.
        let _ = ffi::check(unsafe { ffi::dim_work_free(self.handle) });
    }
}

/// An operation that was started and has to be waited for; its tensors hold the result afterwards.
#[must_use = "the result is there after `wait`"]
pub struct Pending {
    pub(super) work: Work,
    pub(super) operation: Operation,
    pub(super) world: Arc<Inner>,
}

impl Pending {
    /// Between CPUs, waits for the end; between GPUs, lets libtorch's current stream wait for it and returns at once.
    ///
    /// # Errors
    /// [`TorchError::LostPeer`] naming rank and machine of a process that is gone, or that no time was left.
    pub fn wait(self) -> Result<(), TorchError> {
        self.work.wait().map_err(|error| self.world.explained(self.operation.name(), error))
    }
}
