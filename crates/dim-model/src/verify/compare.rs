//! From what was computed to checks: within the tolerance of f32, or within a bound that a plain evaluation in bf16 sets.
//!
//! # The bound of bf16
//!
//! A tensor that went through the wide products is accepted if its error against the published f32 (or f64) result is at
//! most 2 times that of the plain evaluation, [`crate::Precision::Bf16Plain`]: the same network on the same weights, rounded
//! to bf16 at the same places, with convolution, scan and norm computed in f32 in between. Errors are root mean squares over
//! the tensor.
//!
//! The plain evaluation runs on the CPU, whatever is compared with it, so that the two share neither products nor kernels. On
//! the same GPU they would share both: the kernels of bf16 are those of f32 between a load and a rounding, errors come out
//! equal to the last digit, and a sloppy product would widen its own bound.
//!
//! Why this and no fixed number: the error of a network in bf16 depends on its depth, width and weights, and a number
//! that all meet would let a wrong small one pass. The plain evaluation makes the roundings that bf16 makes unavoidable,
//! and no others. Each of the many roundings is as good as independent, so that two correct evaluations which differ in the
//! order of their sums have errors of one size, though not the same errors; a root mean square over hundreds of values or
//! more then differs by far less than a factor of two: the tests beside this module nudge the input so that sums round otherwise, and
//! see a median of 1.0 and at most 1.6 times the plain error, the latter in gradients of a few dozen values. They also show
//! what exceeds the bound: weights truncated instead of rounded, one term of one block wrong by three hundredths, a filter
//! reversed.
//!
//! Two cases need more than their own plain error, which luck can make as small as it likes where there are few values: a
//! tensor of a group (small gradients, and samples of gradients, of which a file has hundreds with a few values each) is
//! measured by the largest plain error in the group; and an error below the unit roundoff of bf16, 2⁻⁹ of the expected root mean square, counts
//! as that much. What is computed in f32 in both precisions (embeddings, modulation, the sequence before the first block)
//! keeps the tolerance of f32.

use std::collections::BTreeMap;

use dim_torch::TorchError;
use tch::{Device, Kind, Tensor};

use super::Report;

/// Most errors of the plain evaluation that an error may be.
const PLAIN_ERRORS: f64 = 2.0;
/// Largest relative error of one rounding to bf16.
const UNIT_ROUNDOFF: f64 = 1.0 / 512.0;

/// A tensor that was computed, beside what it should be.
pub struct Computed {
    /// What the check is called: the key of the tensor in the file, as a rule.
    name: String,
    ours: Tensor,
    expected: Tensor,
    /// What errors are relative to.
    scale: f64,
    /// Largest error of f32, over the scale.
    tolerance: f64,
    /// Whether the wide products had a part in it.
    wide: bool,
    group: Option<&'static str>,
}

impl Computed {
    /// Compared absolutely, with this tolerance in f32.
    #[must_use]
    pub fn new(name: impl Into<String>, ours: &Tensor, expected: &Tensor, tolerance: f64) -> Self {
        let host = |tensor: &Tensor| tensor.detach().to_device(Device::Cpu).to_kind(Kind::Double).flatten(0, -1);
        let (ours, expected) = (host(ours), host(expected));
        Self { name: name.into(), ours, expected, scale: 1.0, tolerance, wide: true, group: None }
    }

    /// Errors are relative to `scale`, or absolute where that is zero.
    #[must_use]
    pub fn relative_to(mut self, scale: f64) -> Self {
        self.scale = if scale > 0.0 { scale } else { 1.0 };
        self
    }

    /// Errors are relative to the largest expected value.
    #[must_use]
    pub fn relative(self) -> Self {
        let scale = self.expected.abs().max().double_value(&[]);
        self.relative_to(scale)
    }

    /// Computed in f32 whatever the precision: `narrow` says whether this is so.
    #[must_use]
    pub fn always_f32(mut self, narrow: bool) -> Self {
        self.wide = !narrow;
        self
    }

    /// One of a group of tensors too small to set a bound each by itself.
    #[must_use]
    pub fn of_group(mut self, group: &'static str) -> Self {
        self.group = Some(group);
        self
    }

    fn fits(&self) -> bool {
        self.ours.size() == self.expected.size()
    }

    fn largest_error(&self) -> f64 {
        if !self.fits() {
            return f64::INFINITY;
        }
        (&self.ours - &self.expected).abs().max().double_value(&[]) / self.scale
    }

    /// Root mean square of the errors.
    fn rms_error(&self) -> f64 {
        if !self.fits() {
            return f64::INFINITY;
        }
        rms(&(&self.ours - &self.expected)) / self.scale
    }
}

fn rms(tensor: &Tensor) -> f64 {
    tensor.square().mean(Kind::Double).sqrt().double_value(&[])
}

/// Adds a check for each tensor, with the tolerances of f32.
pub fn in_f32(computed: &[Computed], report: &mut Report) {
    for tensor in computed {
        report.add(&*tensor.name, tensor.largest_error(), tensor.tolerance);
    }
}

/// Adds a check for each tensor, with the bound that the errors of `plain` set: the same tensors, evaluated plainly.
///
/// # Errors
/// Lists of different lengths.
pub fn in_bf16(computed: &[Computed], plain: &[Computed], report: &mut Report) -> Result<(), TorchError> {
    if computed.len() != plain.len() {
        let (ours, plain) = (computed.len(), plain.len());
        return Err(TorchError::Libtorch(format!("{ours} tensors in bf16, {plain} in the plain evaluation")));
    }
    let mut groups: BTreeMap<&str, f64> = BTreeMap::new();
    for (group, tensor) in plain.iter().filter_map(|tensor| Some((tensor.group?, tensor))) {
        let largest = groups.entry(group).or_default();
        *largest = largest.max(tensor.rms_error());
    }
    for (tensor, plain) in computed.iter().zip(plain) {
        if !tensor.wide {
            report.add(&*tensor.name, tensor.largest_error(), tensor.tolerance);
            continue;
        }
        let group = tensor.group.and_then(|group| groups.get(group)).copied().unwrap_or(0.0);
        let rounding = UNIT_ROUNDOFF * rms(&tensor.expected) / tensor.scale;
        let yardstick = plain.rms_error().max(group).max(rounding);
        report.add(&*tensor.name, tensor.rms_error(), PLAIN_ERRORS * yardstick);
    }
    Ok(())
}
