//! The processes that train together, and the gradient that they add up. A process that is alone has no team, and pays for none.

use std::ops::Range;

use dim_torch::distributed::{self, Reducer, ReducerOptions, World};
use dim_torch::{AdamW, Parameters};
use tch::{Kind, Tensor};

use crate::config::{Distributed, ReduceIn, Split};
use crate::error::TrainerError;

/// This process and the others of its run.
pub struct Team {
    world: World,
    reducer: Reducer,
    split: Split,
    /// Processes that share an image.
    sharing: usize,
}

impl Team {
    /// Binds the parameters' gradients to those of the others.
    ///
    /// # Errors
    /// [`TrainerError::Torch`].
    pub fn new(world: World, parameters: &Parameters, config: &Distributed) -> Result<Self, TrainerError> {
        let options = ReducerOptions {
            bucket_bytes: (config.bucket_mb * 1e6) as usize,
            bf16: config.reduce_in == ReduceIn::Bf16,
            split: match config.split {
                Split::None => distributed::Split::None,
                Split::Optimizer => distributed::Split::Optimizer,
                // What becomes of the parameters is no matter of the gradients.
                Split::Gradients | Split::Parameters => distributed::Split::Gradients,
            },
        };
        let reducer = Reducer::new(&world, parameters, options)?;
        Ok(Self { world, reducer, split: config.split, sharing: config.sequence_parallel })
    }

    /// All processes.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Whether each has but a slice of the parameters.
    pub(super) fn splits_parameters(&self) -> bool {
        self.split == Split::Parameters
    }

    /// Which part of every batch is this process's, and of how many: those who share images have the same.
    pub fn part_of_batch(&self) -> (usize, usize) {
        (self.world.rank() / self.sharing, self.world.size() / self.sharing)
    }

    /// Whether each process has but a slice of the optimiser's state.
    pub fn splits_state(&self) -> bool {
        self.split != Split::None
    }

    /// A step of the optimiser, with the gradients that were added up. Returns their norm.
    pub(super) fn step(&self, optimizer: &mut AdamW, parameters: &Parameters, lr: f64) -> Result<Tensor, TrainerError> {
        Ok(match self.split {
            Split::None => optimizer.step(parameters, lr)?,
            Split::Optimizer | Split::Gradients | Split::Parameters => {
                optimizer.step_slice(&self.world, parameters, &self.reducer.gradients()?, lr, || self.reducer.zero())?
            }
        })
    }

    /// All of what each process has a slice of, as long as the parameters' values.
    pub(super) fn whole(&self, parameters: &Parameters, slice: &Tensor) -> Result<Tensor, TrainerError> {
        let whole = Tensor::f_zeros([parameters.padded_length()], (Kind::Float, slice.device()))?;
        self.world.all_gather(&whole, slice)?.wait()?;
        Ok(whole.f_narrow(0, 0, parameters.length())?)
    }
}

/// What takes in the gradient of one optimiser step, piece by piece: the parameters' buffer, of one process or of all.
pub struct GradientSum<'a> {
    parameters: &'a Parameters,
    team: Option<&'a Team>,
    images: usize,
}

impl<'a> GradientSum<'a> {
    /// A sum that is zero, of a step over `images` images, those of other processes included.
    ///
    /// # Errors
    /// [`TrainerError::Torch`].
    pub fn zero(parameters: &'a Parameters, team: Option<&'a Team>, images: usize) -> Result<Self, TrainerError> {
        match team {
            Some(team) => team.reducer.zero()?,
            None => parameters.zero_gradients(),
        }
        Ok(Self { parameters, team, images })
    }

    /// Adds the gradients of this process's `images` images of the step, in pieces of at most `micro_batch_size`: `loss(start, count)` is the
    /// mean loss of `count` images from number `start` on, 0-dim. Returns this process's share of the step's mean loss, on the device; those who share
    /// images have computed the same loss, of which each has an equal share, and gradients that add up.
    ///
    /// # Errors
    /// What `loss` returns; [`TrainerError::Torch`].
    pub fn add(
        &self,
        images: i64,
        micro_batch_size: usize,
        mut loss: impl FnMut(i64, i64) -> Result<Tensor, TrainerError>,
    ) -> Result<Tensor, TrainerError> {
        let mut total = Tensor::f_zeros([], (Kind::Float, self.parameters.device()))?;
        let pieces = self.pieces(images, (micro_batch_size as i64).max(1));
        for (index, piece) in pieces.iter().enumerate() {
            // Where there is none left, one counts nothing: the others' gradients travel in this pass, too.
            let first = piece.start.min(images - 1);
            let weight = (piece.end - piece.start) as f64 / self.images as f64;
            let share = loss(first, (piece.end - piece.start).max(1))?.f_mul_scalar(weight)?;
            match self.team {
                Some(team) => team.reducer.backward(&share, index + 1 == pieces.len())?,
                None => share.f_backward()?,
            }
            total = total.f_add(&share.f_detach()?)?;
        }
        match self.team.map_or(1, |team| team.sharing) {
            1 => Ok(total),
            sharing => Ok(total.f_div_scalar(sharing as f64)?),
        }
    }

    /// What goes through the network at once: of a process that is alone as many images as may; of a team as many pieces for all, whose shares of a batch differ
    /// by an image.
    fn pieces(&self, images: i64, micro: i64) -> Vec<Range<i64>> {
        match self.team {
            None => (0..images).step_by(micro as usize).map(|start| start..(start + micro).min(images)).collect(),
            Some(team) => {
                let largest = self.images.div_ceil(team.part_of_batch().1) as i64;
                let pieces = (largest + micro - 1) / micro;
                (0..pieces).map(|piece| images * piece / pieces..images * (piece + 1) / pieces).collect()
            }
        }
    }
}
