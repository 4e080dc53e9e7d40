//! Every parameter of a network in one flat buffer, its gradients in another.
//!
//! The optimiser, the moving average, checkpoints and (later) all-reduce then see one array; a parameter is a view.

mod bf16_copy;
mod derived;
mod f32_reads;
mod gathering;
mod layout;
mod sharded;
mod weight;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tch::{Device, Kind, Tensor};

use bf16_copy::Bf16Copy;
pub use derived::Derived;
use f32_reads::F32Reads;
pub use layout::ParameterSpec;
use layout::{flat_length, offsets, padded_length, slice, views};
use sharded::Sharded;
pub use sharded::{HeldUnit, ParameterUnit};
pub use weight::Weight;

use crate::{TorchError, distributed::World, ffi};

/// Named f32 parameters in a fixed order, views of one flat buffer.
pub struct Parameters {
    specs: Vec<ParameterSpec>,
    index: BTreeMap<String, usize>,
    /// The first elements of `padded`. Of sharded parameters both are this process's slice.
    values: Tensor,
    /// All values, and zeros up to a length that can be split evenly.
    padded: Tensor,
    gradients: Option<Tensor>,
    trained: bool,
    views: Vec<Tensor>,
    reads: Arc<F32Reads>,
    bf16: Option<Arc<Bf16Copy>>,
    sharded: Option<Arc<Mutex<Sharded>>>,
}

impl Parameters {
    /// Trainable parameters, all zero: each is a leaf whose `.grad` is a view of [`Parameters::gradients`].
    ///
    /// # Errors
    /// Two specifications of one name, or no memory.
    pub fn zeros(specs: &[ParameterSpec], device: Device) -> Result<Self, TorchError> {
        Self::zeros_in_parts(specs, device, 1, true)
    }

    /// The same in buffers that `parts` processes can split evenly. Without `flat_gradients` there is no buffer of gradients: each leaf
    /// gets a `.grad` of its own, for [`Reducer`](crate::distributed::Reducer) to take away.
    ///
    /// # Errors
    /// As [`Parameters::zeros`].
    pub fn zeros_in_parts(
        specs: &[ParameterSpec],
        device: Device,
        parts: usize,
        flat_gradients: bool,
    ) -> Result<Self, TorchError> {
        let padded = Tensor::f_zeros([padded_length(specs, parts)], (Kind::Float, device))?;
        let mut parameters = Self::from_flat(specs, padded.f_narrow(0, 0, flat_length(specs))?)?;
        let gradients = flat_gradients.then(|| padded.f_zeros_like()).transpose()?;
        let offsets = offsets(specs);
        for ((spec, offset), view) in parameters.specs.iter().zip(offsets).zip(&mut parameters.views) {
            let leaf = view.detach().set_requires_grad(true);
            if let Some(gradients) = &gradients {
                let gradient = slice(gradients, offset, spec)?;
                // SAFETY: both handles are alive; the leaf keeps its own reference to the gradient.
                ffi::check(unsafe { ffi::dim_set_gradient(leaf.as_ptr(), gradient.as_ptr()) })?;
            }
            *view = leaf;
        }
        (parameters.padded, parameters.gradients, parameters.trained) = (padded, gradients, true);
        Ok(parameters)
    }

    /// Trainable parameters, all zero, of which this process keeps but its slice of those of `world`; there is no buffer of gradients. What belongs to one of the
    /// `units`, all whose names begin as it says (the longest that fits counts), is there only while [`ParameterUnit::hold`] holds it; the others always are.
    ///
    /// # Errors
    /// As [`Parameters::zeros`].
    pub fn sharded(
        specs: &[ParameterSpec],
        device: Device,
        world: &World,
        units: &[String],
    ) -> Result<Self, TorchError> {
        let length = padded_length(specs, world.size());
        let (sharded, views) = Sharded::zeros(specs, device, world, length, units)?;
        let slice = sharded.slice();
        Ok(Self {
            specs: specs.to_vec(),
            index: index(specs)?,
            values: slice.shallow_clone(),
            padded: slice,
            gradients: None,
            trained: true,
            views: views.into_iter().map(|view| view.detach().set_requires_grad(true)).collect(),
            reads: Arc::new(F32Reads::new(specs)),
            bf16: None,
            sharded: Some(Arc::new(Mutex::new(sharded))),
        })
    }

    /// Parameters without gradients, all zero: to be filled from a file.
    ///
    /// # Errors
    /// As [`Parameters::zeros`].
    pub fn frozen(specs: &[ParameterSpec], device: Device) -> Result<Self, TorchError> {
        Self::from_flat(specs, Tensor::f_zeros([flat_length(specs)], (Kind::Float, device))?)
    }

    /// Parameters without gradients over an existing flat buffer, such as a moving average; the buffer is shared.
    ///
    /// # Errors
    /// A buffer whose length or type does not fit the specifications, or two of one name.
    pub fn from_flat(specs: &[ParameterSpec], values: Tensor) -> Result<Self, TorchError> {
        let length = flat_length(specs);
        if values.kind() != Kind::Float || values.size() != [length] {
            return Err(TorchError::FlatBuffer {
                expected: format!("f32 [{length}]"),
                got: format!("{:?} {:?}", values.kind(), values.size()),
            });
        }
        let values = values.detach();
        let (index, views, padded) = (index(specs)?, views(&values, specs)?, values.shallow_clone());
        let (gradients, trained, bf16, sharded) = (None, false, None, None);
        let (specs, reads) = (specs.to_vec(), Arc::new(F32Reads::new(specs)));
        Ok(Self { specs, index, values, padded, gradients, trained, views, reads, bf16, sharded })
    }

    /// The same with a copy of all values in bf16, for a network that computes in it: [`Parameters::weight`].
    /// [`AdamW::step`](crate::AdamW::step) writes the copy along with the values. After any other write to them (fresh or
    /// loaded weights), the next use copies all values again; libtorch's count of in-place writes tells.
    /// Its memory is taken on the first use. Sharded parameters have none, and are converted where they are used.
    #[must_use]
    pub fn with_bf16_copy(mut self) -> Self {
        let copy = || Arc::new(Bf16Copy::new(&self.padded, &self.specs, &self.reads));
        self.bf16 = self.sharded.is_none().then(copy);
        self
    }

    /// The unit of [`Parameters::sharded`] called so; `None` for parameters that are all there.
    #[must_use]
    pub fn unit(&self, name: &str) -> Option<ParameterUnit> {
        self.sharded.as_ref().and_then(|sharded| ParameterUnit::named(sharded, name))
    }

    /// Elements of the flat buffer that belong to parameters.
    #[must_use]
    pub fn length(&self) -> i64 {
        flat_length(&self.specs)
    }

    /// The same with the zeros behind them, up to a length that can be split evenly.
    #[must_use]
    pub fn padded_length(&self) -> i64 {
        self.sharded.as_ref().map_or(self.padded.size()[0], |sharded| sharded::lock(sharded).length())
    }

    /// Those of the flat buffer from `start` on; of sharded parameters, which must be this process's slice, that.
    ///
    /// # Errors
    /// A part that does not exist.
    pub fn part(&self, start: i64, length: i64) -> Result<Tensor, TorchError> {
        match &self.sharded {
            Some(sharded) => Ok(sharded::lock(sharded).slice().f_narrow(0, 0, length)?),
            None => Ok(self.padded.f_narrow(0, start, length)?),
        }
    }

    /// Lets all processes know the `part` that each of them has written, and all that they have: afterwards nothing is old.
    ///
    /// # Errors
    /// [`TorchError::LostPeer`].
    pub fn share_parts(&self, world: &World, part: &Tensor) -> Result<(), TorchError> {
        match &self.sharded {
            Some(sharded) => sharded::lock(sharded).gather(None),
            None => {
                world.all_gather(&self.padded, part)?.wait()?;
                self.reads.set_behind(false);
                self.mark_written()
            }
        }
    }

    /// Bytes that the values of the parameters have on this process now.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn resident_bytes(&self) -> Result<i64, TorchError> {
        match &self.sharded {
            Some(sharded) => sharded::lock(sharded).bytes(),
            None => Ok(self.padded.size()[0] * size_of::<f32>() as i64),
        }
    }

    /// The parameter called `name` with its bf16 copy, if there is one.
    ///
    /// # Errors
    /// No parameter has this name.
    pub fn weight(&self, name: &str) -> Result<Weight, TorchError> {
        let position = self.position(name)?;
        let bf16 = self.bf16.as_ref().map(|copy| (Arc::clone(copy), position));
        if bf16.is_none() {
            self.reads.mark(position)?; // it will be read in f32, also if there is a copy later
        }
        let leaf = self.views[position].shallow_clone();
        let gradient = self.gradients.is_some().then(|| leaf.grad());
        Ok(Weight { leaf, gradient, bf16 })
    }

    /// The flat bf16 copy, to be written by whoever writes the values.
    pub(crate) fn flat_bf16(&self) -> Result<Option<Tensor>, TorchError> {
        self.bf16.as_ref().map(|copy| copy.flat()).transpose()
    }

    /// Says that the bf16 copy has just been written from the present values.
    pub(crate) fn mark_bf16_fresh(&self) {
        if let Some(copy) = &self.bf16 {
            copy.mark_fresh();
        }
    }

    /// Names and shapes, in order.
    #[must_use]
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// The parameter called `name`, to be computed with in f32.
    ///
    /// # Errors
    /// No parameter has this name; [`TorchError::Behind`].
    pub fn get(&self, name: &str) -> Result<Tensor, TorchError> {
        self.reads.mark(self.position(name)?)?;
        self.leaf(name)
    }

    /// The parameter called `name`, to be written. Whoever reads it in f32 after the steps of [`AdamW::step_slice`](crate::AdamW::step_slice) takes [`Parameters::get`].
    ///
    /// # Errors
    /// No parameter has this name.
    pub fn leaf(&self, name: &str) -> Result<Tensor, TorchError> {
        Ok(self.views[self.position(name)?].shallow_clone())
    }

    fn position(&self, name: &str) -> Result<usize, TorchError> {
        self.index.get(name).copied().ok_or_else(|| TorchError::UnknownParameter(name.to_owned()))
    }

    /// Every parameter with its specification, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&ParameterSpec, &Tensor)> {
        self.specs.iter().zip(&self.views)
    }

    /// The flat f32 buffer of all values; gaps between parameters are zero. Of sharded parameters, this process's slice. After
    /// [`AdamW::step_slice`](crate::AdamW::step_slice) of parameters with a copy in bf16, other processes' slices of it may be old, but for what is read in f32.
    pub fn values(&self) -> Tensor {
        self.values.shallow_clone()
    }

    /// [`Parameters::values`] and the zeros behind them, `parts` equal parts of [`Parameters::zeros_in_parts`].
    pub fn padded_values(&self) -> Tensor {
        self.padded.shallow_clone()
    }

    /// The flat f32 buffer of all gradients, as long as [`Parameters::padded_values`]; `None` for parameters that are not trained, or
    /// that have no such buffer.
    pub fn gradients(&self) -> Option<Tensor> {
        self.gradients.as_ref().map(Tensor::shallow_clone)
    }

    /// Whether these are leaves that get gradients.
    #[must_use]
    pub fn are_trained(&self) -> bool {
        self.trained
    }

    /// Where each parameter begins in the flat buffer.
    pub(crate) fn offsets(&self) -> Vec<i64> {
        offsets(&self.specs)
    }

    /// The flat buffer in runs of parameters that are matrices, or are not: where each begins, in order.
    pub(crate) fn runs(&self) -> Vec<(i64, bool)> {
        let mut runs: Vec<(i64, bool)> =
            self.offsets().into_iter().zip(&self.specs).map(|(offset, spec)| (offset, spec.matrix)).collect();
        runs.sort_unstable_by_key(|&(offset, _)| offset);
        runs.dedup_by_key(|&mut (_, matrix)| matrix);
        runs
    }

    /// Says that the values were written by something that libtorch does not count.
    fn mark_written(&self) -> Result<(), TorchError> {
        // SAFETY: the handle is alive.
        ffi::check(unsafe { ffi::dim_bump_version(self.padded.as_ptr()) })
    }

    /// Sets every gradient to zero, in place.
    pub fn zero_gradients(&self) {
        if let Some(gradients) = &self.gradients {
            let _ = gradients.shallow_clone().zero_();
        }
    }

    /// Where the parameters live.
    #[must_use]
    pub fn device(&self) -> Device {
        self.values.device()
    }
}

/// The place of each name.
fn index(specs: &[ParameterSpec]) -> Result<BTreeMap<String, usize>, TorchError> {
    let mut index = BTreeMap::new();
    for (position, spec) in specs.iter().enumerate() {
        if index.insert(spec.name.clone(), position).is_some() {
            return Err(TorchError::DuplicateParameter(spec.name.clone()));
        }
    }
    Ok(index)
}
