//! The optimiser on the host's cores.
//!
//! Memory is the limit: plain loops, which the compiler vectorises for the instruction set that they are entered for. None of
//! them rounds differently with wider vectors, nor with more threads.

#[cfg(test)]
mod tests;

use rayon::prelude::*;

use super::constants::Scalars;
use super::{AdamWEma, AdamWEmaState};
use crate::lanes::{self, Kernel, Lanes, Task};
use crate::rows::{Rows, RowsMut};
use crate::view::{TensorView, TensorViewMut};

/// Parameters of a task.
const CHUNK: usize = 1 << 14;

/// Parameters that a task takes at once: what it has written is still in the first cache when it is copied.
const TILE: usize = 1 << 10;

/// Sums that are taken side by side.
const SUMS: usize = 16;

/// The elements of a checked flat view.
fn elements<'a>(view: &TensorView<'a>) -> &'a [f32] {
    Rows::new(view).row(0, 0)
}

/// The elements of a checked flat view, to be changed.
fn elements_mut<'a>(view: &'a mut TensorViewMut<'_>) -> &'a mut [f32] {
    // SAFETY: the view is borrowed exclusively for as long as the slice lives, and this is its only row.
    unsafe { RowsMut::new(view).row(0, 0) }
}

/// The elements of a checked flat view of bf16, as bits.
fn bits_mut<'a>(view: &'a mut TensorViewMut<'_>) -> &'a mut [u16] {
    let length = view.shape().iter().product();
    // SAFETY: the op's check lets only contiguous bf16 on the CPU through, which are aligned as u16 are and have no invalid
    // values; the view is borrowed exclusively for as long as the slice lives.
    unsafe { std::slice::from_raw_parts_mut(view.as_mut_ptr().cast(), length) }
}

/// [`super::gradient_norm`], checked.
pub(super) fn gradient_norm(gradients: &TensorView<'_>, scale: f64, norm: &mut TensorViewMut<'_>) {
    let mut sum = 0.0;
    lanes::run(SquareSum { values: elements(gradients), sum: &mut sum });
    #[allow(clippy::cast_possible_truncation)] // rounding is what it is for
    elements_mut(norm).fill((scale.abs() * sum.sqrt()) as f32);
}

/// The sum of squares of all gradients, in f64: chunk by chunk, then over the chunks in their order.
struct SquareSum<'a> {
    values: &'a [f32],
    sum: &'a mut f64,
}

impl Kernel for SquareSum<'_> {
    fn run<S: Lanes>(self, s: S) {
        let of_chunk = |values| {
            let mut sum = 0.0;
            s.enter(ChunkSum { values, sum: &mut sum });
            sum
        };
        let sums: Vec<f64> = self.values.par_chunks(CHUNK).map(of_chunk).collect();
        *self.sum = sums.into_iter().sum();
    }
}

struct ChunkSum<'a> {
    values: &'a [f32],
    sum: &'a mut f64,
}

impl<S: Lanes> Task<S> for ChunkSum<'_> {
    #[inline(always)]
    fn run(self, _: S) {
        let mut sums = [0.0; SUMS];
        let (groups, rest) = self.values.as_chunks::<SUMS>();
        for group in groups {
            for (sum, &value) in sums.iter_mut().zip(group) {
                *sum += f64::from(value) * f64::from(value);
            }
        }
        for (sum, &value) in sums.iter_mut().zip(rest) {
            *sum += f64::from(value) * f64::from(value);
        }
        *self.sum = sums.into_iter().sum();
    }
}

/// [`super::step`], checked.
pub(super) fn step(inputs: &AdamWEma<'_>, state: &mut AdamWEmaState<'_>) {
    lanes::run(Step::new(inputs, state));
}

/// A whole step, in pieces.
struct Step<'a> {
    scalars: Scalars,
    /// Of the gradients.
    factor: f32,
    chunks: Vec<Chunk<'a>>,
}

/// Some neighbouring parameters and what belongs to them.
struct Chunk<'a> {
    parameters: &'a mut [f32],
    gradients: &'a [f32],
    first_moment: &'a mut [f32],
    second_moment: &'a mut [f32],
    ema: &'a mut [f32],
    copy: Option<&'a mut [u16]>,
}

impl<'a> Step<'a> {
    fn new(inputs: &AdamWEma<'a>, state: &'a mut AdamWEmaState<'_>) -> Self {
        let mut scalars = inputs.constants.scalars();
        if let Some(&[step_size, decay, root_correction]) = inputs.schedule.as_ref().map(elements) {
            scalars = Scalars { step_size, decay, root_correction, ..scalars };
        }
        let clip = inputs.clip.map_or(1.0, |clip| {
            #[allow(clippy::cast_possible_truncation)] // rounded, as all constants are
            let factor = clip.max_norm as f32 / (elements(&clip.norm)[0] + 1e-6);
            if factor > 1.0 { 1.0 } else { factor } // a norm that is no number stays one
        });

        let mut chunks = Vec::new();
        let mut first_moment = elements_mut(&mut state.first_moment).chunks_mut(CHUNK);
        let mut second_moment = elements_mut(&mut state.second_moment).chunks_mut(CHUNK);
        let mut ema = elements_mut(&mut state.ema).chunks_mut(CHUNK);
        let mut copies = state.bf16_copy.as_mut().map(|copy| bits_mut(copy).chunks_mut(CHUNK));
        let parameters = elements_mut(&mut state.parameters).chunks_mut(CHUNK);
        for (parameters, gradients) in parameters.zip(elements(&inputs.gradients).chunks(CHUNK)) {
            chunks.push(Chunk {
                parameters,
                gradients,
                first_moment: first_moment.next().unwrap_or_default(),
                second_moment: second_moment.next().unwrap_or_default(),
                ema: ema.next().unwrap_or_default(),
                copy: copies.as_mut().and_then(Iterator::next),
            });
        }
        Self { scalars, factor: scalars.gradient_scale * clip, chunks }
    }
}

impl Kernel for Step<'_> {
    fn run<S: Lanes>(self, s: S) {
        let Self { scalars, factor, chunks } = self;
        chunks.into_par_iter().for_each(|chunk| s.enter(ChunkStep { scalars, factor, chunk }));
    }
}

struct ChunkStep<'a> {
    scalars: Scalars,
    factor: f32,
    chunk: Chunk<'a>,
}

impl<S: Lanes> Task<S> for ChunkStep<'_> {
    #[inline(always)]
    fn run(self, _: S) {
        let Chunk { parameters, gradients, first_moment, second_moment, ema, mut copy } = self.chunk;
        let state = first_moment.chunks_mut(TILE).zip(second_moment.chunks_mut(TILE)).zip(ema.chunks_mut(TILE));
        let tiles = parameters.chunks_mut(TILE).zip(gradients.chunks(TILE)).zip(state);
        for (tile, ((parameters, gradients), ((first_moment, second_moment), ema))) in tiles.enumerate() {
            let state = first_moment.iter_mut().zip(second_moment).zip(ema);
            for ((p, &g), ((m, v), ema)) in parameters.iter_mut().zip(gradients).zip(state) {
                update(&self.scalars, self.factor * g, (p, m, v, ema));
            }
            if let Some(copy) = &mut copy {
                for (to, &from) in copy[tile * TILE..].iter_mut().zip(&*parameters) {
                    *to = bf16_bits(from);
                }
            }
        }
    }
}

/// The step of one parameter.
#[inline(always)]
fn update(scalars: &Scalars, g: f32, (p, m, v, ema): (&mut f32, &mut f32, &mut f32, &mut f32)) {
    let mut value = *p - scalars.decay * *p;
    *m += scalars.first_rate * (g - *m);
    *v = scalars.second_decay * *v + scalars.second_rate * g * g;
    value -= scalars.step_size * *m / (v.sqrt() / scalars.root_correction + scalars.eps);
    *ema += scalars.ema_rate * (value - *ema);
    *p = value;
}

/// The nearest bf16, the even one of two; a NaN stays one.
#[inline(always)]
fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let nan = bits >> 16 | 0x40;
    (if value.is_nan() { nan } else { rounded }) as u16
}
