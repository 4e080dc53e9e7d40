//! Where the group norms of an image that is computed in tiles have their means and variances from.
//!
//! Those of a tile are not those of the image: norms that saw the tile alone would make neighbours differ where they meet. All
//! tiles therefore take what the norms found before in parts that are each much like the whole.

use std::cell::{Cell, RefCell};

use dim_torch::TorchError;
use tch::{Kind, Tensor};

use super::config::GROUPS;
use crate::grid::size;

/// Means and variances of the groups of one norm, `[batch, group]`, f32.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) mean: Tensor,
    pub(super) variance: Tensor,
}

impl Groups {
    fn of(x: &Tensor) -> Result<Self, TorchError> {
        let grouped = x.f_view([x.size()[0], size(GROUPS), -1])?;
        let (variance, mean) = grouped.f_var_mean_correction([2_i64].as_slice(), 0, false)?;
        Ok(Self { mean, variance })
    }
}

/// Means and variances of several parts of an image, in the making of those of the whole.
#[derive(Default)]
pub(super) struct Sums {
    weight: f64,
    /// Of each norm, values and their squares, f64.
    of_norms: Vec<[Tensor; 2]>,
}

impl Sums {
    /// Adds those of a part of so many pixels.
    pub(super) fn add(&mut self, part: &[Groups], pixels: f64) -> Result<(), TorchError> {
        self.weight += pixels;
        for (norm, Groups { mean, variance }) in part.iter().enumerate() {
            let [mean, variance] = [mean.f_to_kind(Kind::Double)?, variance.f_to_kind(Kind::Double)?];
            let squares = variance.f_add(&mean.f_square()?)?;
            let [mean, squares] = [mean.f_mul_scalar(pixels)?, squares.f_mul_scalar(pixels)?];
            match self.of_norms.get_mut(norm) {
                Some(sums) => *sums = [sums[0].f_add(&mean)?, sums[1].f_add(&squares)?],
                None => self.of_norms.push([mean, squares]),
            }
        }
        Ok(())
    }

    /// Those of the whole.
    pub(super) fn groups(self) -> Result<Vec<Groups>, TorchError> {
        let whole = |[values, squares]: [Tensor; 2]| {
            let mean = values.f_div_scalar(self.weight)?;
            let variance = squares.f_div_scalar(self.weight)?.f_sub(&mean.f_square()?)?.f_clamp_min(0.0)?;
            Ok(Groups { mean: mean.f_to_kind(Kind::Float)?, variance: variance.f_to_kind(Kind::Float)? })
        };
        self.of_norms.into_iter().map(whole).collect()
    }
}

/// What the norms of one pass through a network do, in the order in which they come.
pub(super) enum Norms<'a> {
    /// Each takes means and variances from what it sees.
    Own,
    /// And these are kept.
    Kept(&'a RefCell<Vec<Groups>>),
    /// Each takes those that are known of it.
    Known { groups: &'a [Groups], next: Cell<usize> },
}

impl<'a> Norms<'a> {
    /// For a pass with what an earlier one kept.
    pub(super) fn known(groups: &'a [Groups]) -> Self {
        Self::Known { groups, next: Cell::new(0) }
    }

    /// Those of the next norm, which sees `x`, f32; none if it takes its own.
    pub(super) fn next(&self, x: &Tensor) -> Result<Option<&'a Groups>, TorchError> {
        match self {
            Self::Own => Ok(None),
            Self::Kept(kept) => {
                debug_assert_eq!(x.kind(), Kind::Float);
                kept.borrow_mut().push(Groups::of(x)?);
                Ok(None)
            }
            Self::Known { groups, next } => Ok(groups.get(next.replace(next.get() + 1))),
        }
    }
}
