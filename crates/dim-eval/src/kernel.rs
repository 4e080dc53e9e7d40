//! KID, the kernel inception distance: the squared maximum mean discrepancy under a kernel, which is unbiased for any number of images.
//!
//! Bińkowski et al. 2018 (arXiv 1801.01401), section 4: the kernel is `(a·b / d + 1)³`, the value the mean over subsets of the images.

use rand::{SeedableRng, seq::index};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::{EvalError, inception_score::MeanStd, statistics::refuse_what_is_no_number};

/// Rows of the matrix of kernels that are in memory at a time, and columns.
const BLOCK: i64 = 1024;

/// Which images are compared with which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subsets {
    /// How many pairs of subsets.
    pub count: usize,
    /// Images of each.
    pub size: usize,
    /// Seed of the choice.
    pub seed: u64,
}

/// The distance of subsets of `one` and `other`, `[image, feature]` each: mean and standard deviation over the subsets. Computed on
/// `device` in f64, in blocks.
///
/// # Errors
/// [`EvalError::TooFewImages`] for subsets larger than a set or of less than two; [`EvalError::Dimension`], [`EvalError::NotFinite`].
pub fn kernel_distance(one: &Tensor, other: &Tensor, subsets: Subsets, device: Device) -> Result<MeanStd, EvalError> {
    let needed = subsets.size.max(2) as u64;
    for set in [one, other] {
        let got = set.size()[0].unsigned_abs();
        if got < needed || subsets.size < 2 {
            return Err(EvalError::TooFewImages { quantity: "a kernel distance of such subsets", needed, got });
        }
    }
    check(one, other)?;
    let mut rng = ChaCha8Rng::seed_from_u64(subsets.seed);
    let mut pick = |set: &Tensor| {
        let mut chosen: Vec<i64> = index::sample(&mut rng, set.size()[0] as usize, subsets.size)
            .into_iter()
            .map(|index| index as i64)
            .collect();
        chosen.sort_unstable(); // memory is read in order
        set.f_index_select(0, &Tensor::f_from_slice(&chosen)?.f_to_device(set.device())?)
    };
    let mut values = Vec::with_capacity(subsets.count);
    for _ in 0..subsets.count {
        let (one, other) = (pick(one)?, pick(other)?);
        values.push(discrepancy(&one, &other, device)?);
    }
    Ok(MeanStd::of(&values))
}

/// The distance of the whole sets, `[image, feature]` each, which uses every pair of images once.
///
/// # Errors
/// [`EvalError::TooFewImages`] for less than two images; [`EvalError::Dimension`], [`EvalError::NotFinite`].
pub fn kernel_distance_of_all(one: &Tensor, other: &Tensor, device: Device) -> Result<f64, EvalError> {
    check(one, other)?;
    for set in [one, other] {
        let got = set.size()[0].unsigned_abs();
        if got < 2 {
            return Err(EvalError::TooFewImages { quantity: "a kernel distance", needed: 2, got });
        }
    }
    discrepancy(one, other, device)
}

fn check(one: &Tensor, other: &Tensor) -> Result<(), EvalError> {
    let (expected, got) = (one.size()[1], other.size()[1]);
    if expected != got {
        let got = got.to_string();
        return Err(EvalError::Dimension { what: "the other set", expected: expected as usize, got });
    }
    refuse_what_is_no_number(one, 0)?;
    refuse_what_is_no_number(other, 0)
}

fn discrepancy(one: &Tensor, other: &Tensor, device: Device) -> Result<f64, EvalError> {
    let count = |set: &Tensor| set.size()[0] as f64;
    let pairs_of = |set: &Tensor| count(set) * (count(set) - 1.0);
    let within = |set: &Tensor| Ok::<_, EvalError>(kernels(set, set, true, device)? / pairs_of(set));
    let between = kernels(one, other, false, device)? / (count(one) * count(other));
    Ok(within(one)? + within(other)? - 2.0 * between)
}

/// The sum of the kernels of all pairs; of one set with itself without those of an image with itself.
fn kernels(one: &Tensor, other: &Tensor, same: bool, device: Device) -> Result<f64, EvalError> {
    let features = one.size()[1] as f64;
    let mut sum = 0.0;
    let place = |rows: &Tensor| rows.f_to_device(device)?.f_to_kind(Kind::Double);
    for rows in &one.f_split(BLOCK, 0)? {
        let rows = place(rows)?;
        for columns in &other.f_split(BLOCK, 0)? {
            let columns = place(columns)?;
            let dot = rows.f_matmul(&columns.f_transpose(0, 1)?)?;
            let kernel = dot.f_div_scalar(features)?.f_add_scalar(1.0)?.f_pow_tensor_scalar(3)?;
            sum += kernel.f_sum(Kind::Double)?.double_value(&[]);
        }
        if same {
            let squares = rows.f_square()?.f_sum_dim_intlist(&[1_i64][..], false, Kind::Double)?;
            let own = squares.f_div_scalar(features)?.f_add_scalar(1.0)?.f_pow_tensor_scalar(3)?;
            sum -= own.f_sum(Kind::Double)?.double_value(&[]);
        }
    }
    Ok(sum)
}
