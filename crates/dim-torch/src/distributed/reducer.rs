//! Gradients of all processes added up, in buckets of the flat buffer, while the backward pass still computes others.
//! Source: Li et al. 2020, "PyTorch Distributed" (arXiv 2006.15704); the splits are Rajbhandari et al. 2020, "ZeRO" (arXiv 1910.02054).

mod buckets;
mod departures;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tch::{Kind, Tensor, no_grad};

use self::buckets::{Bucket, Plan, layer_starts};
use self::departures::Departures;
use super::{Pending, World};
use crate::{Parameters, TorchError, leaf_gradient};

/// Of split gradients, buckets that may be under way at once: their memory is what is saved elsewhere.
const UNDER_WAY: usize = 2;

/// What each process keeps a slice of, and all of which only together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// Nothing: every process has all.
    #[default]
    None,
    /// The optimiser's moments and averages: ZeRO's first stage.
    Optimizer,
    /// And the gradients: ZeRO's second stage.
    Gradients,
}

/// How gradients are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReducerOptions {
    /// Bytes of f32 gradients that travel together.
    pub bucket_bytes: usize,
    /// Whether they travel in bf16, half the bytes at three digits.
    pub bf16: bool,
    /// What is split.
    pub split: Split,
}

/// Adds up the gradients of all processes.
///
/// The first backward pass teaches how often each parameter gets a gradient, and when each bucket has its last; from the second on the
/// buckets leave in that order, the same everywhere, each with the first gradient after it is complete.
///
/// Not at once, for what is computed beside a journey is slowed by it, and unequally. Products occupy a GPU to the last multiprocessor and take half as
/// long again if some are gone; norms wait for the memory that NCCL uses, too. A layer's first gradient is that of its last product, and what follows is its scan,
/// which is long, needs little memory and runs in many waves. Buckets that hold whole layers are complete when a layer is; so they travel beside the next one's scan.
pub struct Reducer {
    shared: Arc<Mutex<State>>,
    split: Split,
}

struct State {
    world: World,
    options: ReducerOptions,
    plan: Plan,
    /// Of all gradients; of this process's slice where gradients are split.
    flat: Tensor,
    leaves: Vec<Tensor>,
    /// Whether `flat` is zero, all of it.
    is_zero: bool,
    /// Whether the present backward pass is the last of its step.
    last: bool,
    /// How often each parameter got a gradient in a backward pass before; `None` until there was one.
    expected: Option<Vec<u32>>,
    /// The same of the present one.
    fired: Vec<u32>,
    /// Parameters of each bucket that still lack a gradient.
    lacking: Vec<usize>,
    /// Of each bucket, the number of its last gradient among all of the first backward pass, from 1.
    last_arrival: Vec<u64>,
    departures: Departures,
    under_way: VecDeque<Departed>,
    /// Of split gradients, what gathers in buckets that have not left.
    staged: Vec<Option<Tensor>>,
    /// What ended the backward pass, before libtorch made a text of it.
    failed: Option<TorchError>,
}

/// A bucket on its way.
struct Departed {
    bucket: Bucket,
    pending: Pending,
    /// What travels, where that is not the flat buffer itself.
    wire: Option<Tensor>,
}

impl Reducer {
    /// Hooks into the parameters' leaves.
    ///
    /// # Errors
    /// Parameters that are not trained, or whose buffers do not fit `options.split`.
    pub fn new(world: &World, parameters: &Parameters, options: ReducerOptions) -> Result<Self, TorchError> {
        let parts = if options.split == Split::None { 1 } else { world.size() as i64 };
        let length = parameters.padded_length();
        let refused = |got: &str| TorchError::FlatBuffer {
            expected: format!("trained, of a length that splits into {parts}, gradients as the split says"),
            got: got.to_owned(),
        };
        if !parameters.are_trained() || length % parts != 0 {
            return Err(refused(&format!("{length} elements, trained: {}", parameters.are_trained())));
        }
        let flat = match (options.split, parameters.gradients()) {
            (Split::Gradients, None) => Tensor::f_zeros([length / parts], (Kind::Float, parameters.device()))?,
            (Split::None | Split::Optimizer, Some(gradients)) => gradients,
            (_, gradients) => return Err(refused(&format!("flat gradients: {}", gradients.is_some()))),
        };
        let sizes: Vec<i64> = parameters.specs().iter().map(crate::ParameterSpec::elements).collect();
        let bucket = (options.bucket_bytes / size_of::<f32>()).max(1) as i64;
        let offsets = parameters.offsets();
        let layers = layer_starts(parameters.specs().iter().map(|spec| spec.name.as_str()), &offsets);
        let plan = Plan::new((&offsets, &sizes), &layers, length, parts, bucket);
        let (buckets, leaves) = (plan.buckets.len(), parameters.iter().map(|(_, leaf)| leaf.shallow_clone()));
        let state = State {
            world: world.clone(),
            options,
            flat,
            leaves: leaves.collect(),
            is_zero: false,
            last: false,
            expected: None,
            fired: vec![0; sizes.len()],
            lacking: vec![0; buckets],
            last_arrival: vec![0; buckets],
            departures: Departures::new(buckets),
            under_way: VecDeque::new(),
            staged: (0..buckets).map(|_| None).collect(),
            failed: None,
            plan,
        };
        let shared = Arc::new(Mutex::new(state));
        for (index, (_, leaf)) in parameters.iter().enumerate() {
            let shared = Arc::downgrade(&shared);
            leaf_gradient::after_accumulation(leaf, move || {
                let Some(shared) = shared.upgrade() else { return Ok(()) };
                let mut state = lock(&shared);
                state.arrived(index).map_err(|error| {
                    let text = error.to_string();
                    state.failed.get_or_insert(error);
                    TorchError::Libtorch(text)
                })
            })?;
        }
        Ok(Self { shared, split: options.split })
    }

    /// Before the first backward pass of a step: all gradients are zero. Again before that pass it does nothing, so that it may be called as soon as the last
    /// step's are used up.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn zero(&self) -> Result<(), TorchError> {
        let mut state = lock(&self.shared);
        if !state.is_zero {
            let _ = no_grad(|| state.flat.f_zero_())?;
            state.is_zero = true;
        }
        Ok(())
    }

    /// Runs the backward pass of `loss`, 0-dim, this process's share of a sum over all. After the `last` one of a step, [`Reducer::gradients`]
    /// are those of the sum; before that nothing is sent, unless gradients are split.
    ///
    /// # Errors
    /// [`TorchError::LostPeer`]; an error of libtorch.
    pub fn backward(&self, loss: &Tensor, last: bool) -> Result<(), TorchError> {
        lock(&self.shared).begin(last);
        if let Err(error) = loss.f_backward() {
            return Err(lock(&self.shared).failed.take().unwrap_or_else(|| error.into()));
        }
        no_grad(|| lock(&self.shared).finish())
    }

    /// The gradients of the sum: all, or this process's slice, where the optimiser's state or they themselves are split.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn gradients(&self) -> Result<Tensor, TorchError> {
        let state = lock(&self.shared);
        match self.split {
            Split::None | Split::Gradients => Ok(state.flat.shallow_clone()),
            Split::Optimizer => {
                let length = state.flat.size()[0] / state.world.size() as i64;
                Ok(state.flat.f_narrow(0, length * state.world.rank() as i64, length)?)
            }
        }
    }
}

/// A thread that panicked while it held the lock has ended the backward pass with an error, and the run with it.
fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Whether what the present backward pass computes is sent.
    fn sends(&self) -> bool {
        self.last || self.options.split == Split::Gradients
    }

    fn begin(&mut self, last: bool) {
        (self.is_zero, self.last) = (false, last);
        self.departures.restart();
        self.fired.fill(0);
        if let Some(expected) = &self.expected {
            self.plan.count_members(&mut self.lacking, |parameter| expected[parameter] > 0);
        }
    }

    /// Parameter `index` got a gradient.
    fn arrived(&mut self, index: usize) -> Result<(), TorchError> {
        self.fired[index] += 1;
        if self.expected.is_none() {
            let number = 1 + self.last_arrival.iter().max().copied().unwrap_or(0);
            for piece in &self.plan.members[index] {
                self.last_arrival[piece.bucket] = number;
            }
        }
        if !self.sends() {
            return Ok(());
        }
        if self.expected.is_some() {
            while let Some(bucket) = self.departures.next().filter(|&bucket| self.lacking[bucket] == 0) {
                self.depart(bucket)?;
            }
        }
        if self.plan.members[index].iter().any(|piece| self.departures.has_left(piece.bucket)) {
            return Err(TorchError::Libtorch(format!(
                "gradient {} of parameter {index} came after its bucket had left; expected {:?}, as in the first backward pass",
                self.fired[index],
                self.expected.as_ref().map(|expected| expected[index])
            )));
        }
        if self.options.split == Split::Gradients {
            self.stage(index)?;
        }
        let complete = self.expected.as_ref().is_some_and(|expected| expected[index] == self.fired[index]);
        if complete {
            for piece in &self.plan.members[index] {
                self.lacking[piece.bucket] -= 1;
            }
        }
        Ok(())
    }

    /// Moves a leaf's gradient into its buckets.
    fn stage(&mut self, index: usize) -> Result<(), TorchError> {
        let Some(gradient) = leaf_gradient::take_gradient(&self.leaves[index])? else { return Ok(()) };
        let gradient = gradient.f_reshape([-1])?;
        for piece in &self.plan.members[index] {
            let staged = &mut self.staged[piece.bucket];
            if staged.is_none() {
                let length = self.plan.buckets[piece.bucket].length;
                *staged = Some(Tensor::f_zeros([length], (Kind::Float, gradient.device()))?);
            }
            if let Some(staged) = staged {
                let mut place = staged.f_narrow(0, piece.in_bucket, piece.length)?;
                let _ = place.f_add_(&gradient.f_narrow(0, piece.in_parameter, piece.length)?)?;
            }
        }
        Ok(())
    }

    /// Sends the bucket of this number, which is the next.
    fn depart(&mut self, number: usize) -> Result<(), TorchError> {
        let bucket = self.plan.buckets[number];
        let source = match self.options.split {
            Split::Gradients => match self.staged[number].take() {
                Some(staged) => staged,
                None => Tensor::f_zeros([bucket.length], (Kind::Float, self.flat.device()))?,
            },
            _ => self.flat.f_narrow(0, bucket.start, bucket.length)?,
        };
        self.departures.leave();
        let wire = match (self.options.bf16, self.options.split) {
            (true, _) => Some(source.f_to_kind(Kind::BFloat16)?),
            (false, Split::Gradients) => Some(source.shallow_clone()),
            (false, _) => None,
        };
        let travels = wire.as_ref().unwrap_or(&source);
        let pending = match self.options.split {
            Split::None => self.world.all_reduce(travels)?,
            _ => self.world.reduce(travels, bucket.owner)?,
        };
        self.under_way.push_back(Departed { bucket, pending, wire });
        if self.options.split == Split::Gradients && self.under_way.len() > UNDER_WAY {
            self.arrive()?;
        }
        Ok(())
    }

    /// Takes in the bucket that left first.
    fn arrive(&mut self) -> Result<(), TorchError> {
        let Some(Departed { bucket, pending, wire }) = self.under_way.pop_front() else { return Ok(()) };
        pending.wait()?;
        let own = self.options.split == Split::None || bucket.owner == self.world.rank();
        let Some(wire) = wire.filter(|_| own) else { return Ok(()) };
        match self.options.split {
            Split::Gradients => {
                let slice = self.flat.size()[0] * self.world.rank() as i64;
                let mut place = self.flat.f_narrow(0, bucket.start - slice, bucket.length)?;
                let _ = place.f_add_(&wire)?;
            }
            _ => self.flat.f_narrow(0, bucket.start, bucket.length)?.f_copy_(&wire)?,
        }
        Ok(())
    }

    /// After a backward pass: sends what has not left, and takes in all.
    fn finish(&mut self) -> Result<(), TorchError> {
        if self.sends() {
            while let Some(bucket) = self.departures.next() {
                self.depart(bucket)?;
            }
            while !self.under_way.is_empty() {
                self.arrive()?;
            }
        }
        if self.expected.is_none() {
            self.expected = Some(self.fired.clone());
            self.agree_on_order()?;
        }
        Ok(())
    }

    /// Lets the buckets leave in the order in which those of rank 0 were completed.
    fn agree_on_order(&mut self) -> Result<(), TorchError> {
        let own: Vec<i64> = Departures::by_arrival(&self.last_arrival).iter().map(|&bucket| bucket as i64).collect();
        let order = Tensor::f_from_slice(&own)?.f_to_device(self.flat.device())?;
        self.world.broadcast(&order, 0)?.wait()?;
        let order = Vec::<i64>::try_from(order)?;
        self.departures.set_order(order.iter().map(|&bucket| bucket as usize).collect());
        Ok(())
    }
}
