//! Work of a GPU that is recorded once and done again by one call. Source: CUDA's programming guide, "CUDA Graphs".

use std::ffi::c_void;
use std::marker::PhantomData;

use tch::no_grad;

use crate::{TorchError, ffi};

/// A recording. It reads and writes the same memory every time: inputs are changed by writing into the tensors that were read
/// when it was made.
pub struct CudaGraph {
    handle: *mut c_void,
    /// libtorch's current stream is of a thread.
    not_send: PhantomData<*mut ()>,
}

impl CudaGraph {
    /// Records what `work` does on CUDA device `ordinal`, without gradients; returns the recording and the tensors that `work`
    /// returns, which every [`CudaGraph::replay`] writes anew. `work` is called once more than there are `warm_up_runs`, which come first:
    /// libraries choose what to use, and caches are filled, which cannot be recorded. It must not wait for the device, nor read or write
    /// memory of the host. Memory that no tensor holds is given back to the device before the recording, which takes its own.
    ///
    /// # Errors
    /// What `work` returns; no GPU, or work that cannot be recorded.
    pub fn record<T, E: From<TorchError>>(
        ordinal: usize,
        warm_up_runs: usize,
        mut work: impl FnMut() -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        let index = i32::try_from(ordinal).unwrap_or(i32::MAX);
        let mut handle = std::ptr::null_mut();
        // SAFETY: the callee writes one pointer to `handle` or returns a message.
        ffi::check(unsafe { ffi::dim_graph_new(index, &raw mut handle) })?;
        let graph = Self { handle, not_send: PhantomData };
        let recorded = no_grad(|| graph.record_on_own_stream(warm_up_runs, &mut work));
        // SAFETY: the graph is alive, and its stream current since it was made.
        let left = ffi::check(unsafe { ffi::dim_graph_leave(graph.handle) });
        let results = recorded?;
        left?;
        Ok((graph, results))
    }

    fn record_on_own_stream<T, E: From<TorchError>>(
        &self,
        warm_up_runs: usize,
        work: &mut impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        for _ in 0..warm_up_runs {
            work()?;
        }
        // SAFETY: the graph is alive and has recorded nothing yet.
        ffi::check(unsafe { ffi::dim_graph_begin(self.handle) })?;
        let results = work();
        // SAFETY: it records since the call above. Also after an error: the stream must be whole again.
        let ended = ffi::check(unsafe { ffi::dim_graph_end(self.handle) });
        let results = results?;
        ended?;
        Ok(results)
    }

    /// Does the recorded work on libtorch's current stream, without waiting for it.
    ///
    /// # Errors
    /// An error of the device.
    pub fn replay(&self) -> Result<(), TorchError> {
        // SAFETY: the graph is alive and whole: `record` returned it.
        ffi::check(unsafe { ffi::dim_graph_replay(self.handle) })
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: the handle came from `dim_graph_new` and is freed once, here. What a failure would say is of no use any more.
        let _ = ffi::check(unsafe { ffi::dim_graph_free(self.handle) });
    }
}
