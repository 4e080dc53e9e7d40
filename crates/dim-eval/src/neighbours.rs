//! Fidelity and diversity apart: precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991), density and coverage (Naeem et al. 2020,
//! arXiv 2002.09797).
//!
//! Each image's features are the centre of a ball that reaches to its k-th nearest neighbour in its own set. All four count which
//! points of the other set lie in which balls, strictly inside, as the package `prdc` does. Distances are computed block by block in f64, so
//! that memory does not grow with the square of the number of images.

use tch::{Device, Kind, Tensor};

use crate::{EvalError, statistics::refuse_what_is_no_number};

/// Rows of the matrix of distances that are in memory at a time, and columns.
const BLOCK: i64 = 1024;

/// What the balls of `k` neighbours say of generated images.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbours {
    /// The number of neighbours.
    pub k: usize,
    /// Share of the generated images that lie in a ball of a real one.
    pub precision: f64,
    /// Share of the real images that lie in a ball of a generated one.
    pub recall: f64,
    /// In how many balls of real images a generated one lies, on average, over `k`; it may exceed 1.
    pub density: f64,
    /// Share of the real images in whose ball a generated one lies.
    pub coverage: f64,
}

/// Features `[image, feature]` whose distances are computed on `device`.
struct Set {
    /// f64, about the common centre, in blocks on the host.
    blocks: Vec<Tensor>,
    device: Device,
}

/// Compares `generated` with `real` images by their features, `[image, feature]`, for each number of neighbours.
///
/// # Errors
/// [`EvalError::TooFewImages`] for sets with no more images than neighbours; [`EvalError::Dimension`], [`EvalError::NotFinite`],
/// [`EvalError::Argument`] for no neighbour.
pub fn neighbours(
    real: &Tensor,
    generated: &Tensor,
    ks: &[usize],
    device: Device,
) -> Result<Vec<Neighbours>, EvalError> {
    if real.size()[1] != generated.size()[1] {
        let (expected, got) = (real.size()[1] as usize, generated.size()[1].to_string());
        return Err(EvalError::Dimension { what: "the generated images", expected, got });
    }
    // A shift changes no distance, and small numbers cancel less.
    let centre = real.f_to_kind(Kind::Double)?.f_mean_dim(&[0_i64][..], true, Kind::Double)?;
    let (real_set, generated_set) = (Set::new(real, &centre, device)?, Set::new(generated, &centre, device)?);
    let real_radii = real_set.squared_radii(ks)?;
    let generated_radii = generated_set.squared_radii(ks)?;

    let mut counts = vec![Count::default(); ks.len()];
    // Whether a real image was recalled and covered so far.
    let zeros = || Tensor::f_zeros([real.size()[0]], (Kind::Bool, device));
    let recalled = ks.iter().map(|_| zeros()).collect::<Result<Vec<_>, _>>()?;
    let covered = ks.iter().map(|_| zeros()).collect::<Result<Vec<_>, _>>()?;
    let mut first_generated = 0;
    for rows in &generated_set.blocks {
        let rows = rows.f_to_device(device)?;
        let count = rows.size()[0];
        let none = |_| Tensor::f_zeros([count], (Kind::Bool, device));
        let mut precise = ks.iter().map(none).collect::<Result<Vec<_>, _>>()?;
        let mut first_real = 0;
        for columns in &real_set.blocks {
            let columns = columns.f_to_device(device)?;
            let width = columns.size()[0];
            let distances = squared_distances(&rows, &columns)?;
            for (number, count_of) in counts.iter_mut().enumerate() {
                let of_real = real_radii[number].f_narrow(0, first_real, width)?.f_unsqueeze(0)?;
                let of_generated = generated_radii[number].f_narrow(0, first_generated, count)?.f_unsqueeze(1)?;
                let in_real = distances.f_lt_tensor(&of_real)?;
                let in_generated = distances.f_lt_tensor(&of_generated)?;
                count_of.hits += in_real.f_sum(Kind::Int64)?.int64_value(&[]);
                precise[number] = precise[number].f_logical_or(&in_real.f_any_dim(1, false)?)?;
                let mut place = covered[number].f_narrow(0, first_real, width)?;
                let _ = place.f_logical_or_(&in_real.f_any_dim(0, false)?)?;
                let mut place = recalled[number].f_narrow(0, first_real, width)?;
                let _ = place.f_logical_or_(&in_generated.f_any_dim(0, false)?)?;
            }
            first_real += width;
        }
        for (count_of, precise) in counts.iter_mut().zip(precise) {
            count_of.precise += precise.f_sum(Kind::Int64)?.int64_value(&[]);
        }
        first_generated += count;
    }
    let (reals, generateds) = (real.size()[0] as f64, generated.size()[0] as f64);
    let share = |of: &Tensor| Ok::<_, EvalError>(of.f_sum(Kind::Int64)?.int64_value(&[]) as f64 / reals);
    let finish = |(number, &k): (usize, &usize)| {
        Ok(Neighbours {
            k,
            precision: counts[number].precise as f64 / generateds,
            recall: share(&recalled[number])?,
            density: counts[number].hits as f64 / (k as f64 * generateds),
            coverage: share(&covered[number])?,
        })
    };
    ks.iter().enumerate().map(finish).collect()
}

/// Distance of each image to its k-th nearest other one of the set, `[image]` f64 on the CPU.
///
/// # Errors
/// As [`neighbours`].
pub fn radii(features: &Tensor, k: usize, device: Device) -> Result<Tensor, EvalError> {
    let centre = features.f_to_kind(Kind::Double)?.f_mean_dim(&[0_i64][..], true, Kind::Double)?;
    let squared = Set::new(features, &centre, device)?.squared_radii(&[k])?;
    Ok(squared[0].f_sqrt()?.f_to_device(Device::Cpu)?)
}

#[derive(Clone, Copy, Default)]
struct Count {
    /// Pairs of a ball of a real image and a generated one in it.
    hits: i64,
    /// Generated images in some ball.
    precise: i64,
}

impl Set {
    fn new(features: &Tensor, centre: &Tensor, device: Device) -> Result<Self, EvalError> {
        refuse_what_is_no_number(features, 0)?;
        let centred = |rows: Tensor| rows.f_to_kind(Kind::Double)?.f_sub(centre);
        let blocks = features.f_split(BLOCK, 0)?.into_iter().map(centred).collect::<Result<_, _>>()?;
        Ok(Self { blocks, device })
    }

    fn len(&self) -> u64 {
        self.blocks.iter().map(|block| block.size()[0].unsigned_abs()).sum()
    }

    /// Squared distance of each image to its k-th nearest other one, for each k, `[image]` on the device.
    fn squared_radii(&self, ks: &[usize]) -> Result<Vec<Tensor>, EvalError> {
        let most = ks.iter().copied().max().unwrap_or(0);
        if ks.contains(&0) || most == 0 {
            let (expected, got) = ("at least 1".to_owned(), "0".to_owned());
            return Err(EvalError::Argument { argument: "the number of neighbours", expected, got });
        }
        if self.len() <= most as u64 {
            let (needed, got) = (most as u64 + 1, self.len());
            return Err(EvalError::TooFewImages { quantity: "a ball to so many neighbours", needed, got });
        }
        let mut nearest = Vec::new();
        for (number, rows) in self.blocks.iter().enumerate() {
            let rows = rows.f_to_device(self.device)?;
            let mut smallest: Option<Tensor> = None;
            for (other, columns) in self.blocks.iter().enumerate() {
                let mut distances = squared_distances(&rows, &columns.f_to_device(self.device)?)?;
                if number == other {
                    let _ = distances.f_fill_diagonal_(f64::INFINITY, false)?;
                }
                let candidates = match &smallest {
                    Some(smallest) => Tensor::f_cat(&[smallest, &distances], 1)?,
                    None => distances,
                };
                let k = (most as i64).min(candidates.size()[1]);
                smallest = Some(candidates.f_topk(k, 1, false, true)?.0);
            }
            nearest.extend(smallest);
        }
        let nearest = Tensor::f_cat(&nearest, 0)?;
        ks.iter().map(|&k| Ok(nearest.f_select(1, k as i64 - 1)?.f_contiguous()?)).collect()
    }
}

/// `[row, column]` of `|a|² + |b|² − 2 a·b`.
fn squared_distances(rows: &Tensor, columns: &Tensor) -> Result<Tensor, EvalError> {
    let squares = |x: &Tensor| x.f_square()?.f_sum_dim_intlist(&[1_i64][..], true, Kind::Double);
    let (of_rows, of_columns) = (squares(rows)?, squares(columns)?.f_transpose(0, 1)?);
    let mut product = rows.f_matmul(&columns.f_transpose(0, 1)?)?;
    let _ = product.f_mul_scalar_(-2.0)?;
    let _ = product.f_add_(&of_rows)?;
    let _ = product.f_add_(&of_columns)?;
    Ok(product.f_clamp_min_(0.0)?)
}
