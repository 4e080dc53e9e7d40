//! UniPC, a multistep predictor and corrector: Zhao et al., "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of
//! Diffusion Models", arXiv 2302.04867, algorithms 1 (UniC) and 2 (UniP), with data prediction.
//!
//! A step of length `h` in half the log signal-to-noise ratio, from a state whose clean image is `m_0`, is exact for an image that stays;
//! images of `p − 1` earlier steps, at `r_i h`, correct it by their divided differences `D_i = (m_i − m_0) / r_i`:
//!
//! ```text
//! x = (sigma / sigma_0) x_0 − alpha (e^−h − 1) m_0 − alpha B(h) Σ rho_i D_i
//! ```
//!
//! with the `rho` that make it exact for polynomials. The corrector adds the image that the network sees at the end of the step, which
//! the next step needs anyway, so it costs no call.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{
    Observer, SamplerInputs,
    run::{Marginal, Run},
    time_grid::{self, Spacing},
};
use crate::DiffusionError;

/// The function `B(h)` that the differences are weighted with. The orders are the same, the errors not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// `−h`: for few steps without much guidance.
    Bh1,
    /// `e^−h − 1`.
    #[default]
    Bh2,
}

/// Options of [`unipc`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UniPcOptions {
    /// Steps, each of which calls the network once.
    pub steps: usize,
    /// Images that the predictor looks at, 1 to 3; the corrector looks at one more.
    pub order: usize,
    /// The function `B(h)`.
    pub weighting: Weighting,
    /// Lower the order towards the end, down to 1 in the last step, which keeps few steps stable.
    pub lower_order_final: bool,
    /// Where the times lie.
    pub spacing: Spacing,
    /// The time of the initial state.
    pub t_start: f64,
    /// The time of the result.
    pub t_end: f64,
}

impl Default for UniPcOptions {
    fn default() -> Self {
        Self {
            steps: 20,
            order: 2,
            weighting: Weighting::Bh2,
            lower_order_final: true,
            spacing: Spacing::LogSnr,
            t_start: 1.0,
            t_end: 1e-3,
        }
    }
}

impl UniPcOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// If an option has a value it cannot have.
    pub fn validate(&self) -> Result<(), DiffusionError> {
        time_grid::validate(self.steps, self.t_start, self.t_end)?;
        if !(1..=3).contains(&self.order) {
            return Err(DiffusionError::option("order", "1, 2 or 3", self.order));
        }
        Ok(())
    }

    /// The order of the predictor of step `step` (from 0): no more images than there are, and fewer towards the end.
    fn order_of(&self, step: usize) -> usize {
        let left = if self.lower_order_final { self.steps - step } else { self.order };
        self.order.min(step + 1).min(left)
    }
}

/// A clean image that the network saw, and where.
struct Seen {
    x_0: Tensor,
    half_log_snr: Tensor,
}

/// Samples from `t_start` to `t_end`. The observer sees each state as predicted; the next step begins with correcting it.
///
/// # Errors
/// See [`Sampler::sample`](super::Sampler::sample).
pub fn unipc(
    inputs: &SamplerInputs<'_>,
    options: &UniPcOptions,
    observer: &mut Observer<'_>,
) -> Result<Tensor, DiffusionError> {
    options.validate()?;
    let _no_grad = tch::no_grad_guard();
    let ends = [inputs.first_time(options.t_start), options.t_end];
    let times = options.spacing.times(inputs.schedule, ends, options.steps, inputs.x.kind());
    let time = |i: usize| times.get(i as i64);

    let mut run = Run::start(inputs, options.steps, [&time(0), &time(options.steps)], observer)?;
    let mut x = inputs.x.shallow_clone();
    let mut at = run.marginal(time(0));
    // Newest first.
    let mut seen: Vec<Seen> = Vec::with_capacity(options.order + 1);
    // Where the step before began.
    let mut before: Option<(Marginal, Tensor)> = None;
    for step in 0..options.steps {
        let x_0 = run.x_0(&x, &at)?;
        if let Some((from, start)) = before.take() {
            let known = &seen[..options.order_of(step - 1)];
            x = Update::new(&from, &at, known, options.weighting).corrected(&start, &x_0)?;
        }
        seen.insert(0, Seen { x_0, half_log_snr: at.half_log_snr.shallow_clone() });
        seen.truncate(options.order);
        let to = run.marginal(time(step + 1));
        let known = &seen[..options.order_of(step)];
        let predicted = Update::new(&at, &to, known, options.weighting).predicted(&x)?;
        before = Some((at, x));
        (at, x) = (to, predicted);
        run.finished(step + 1, &at.t, &x)?;
    }
    Ok(x)
}

/// One step: what does not depend on whether it predicts or corrects.
struct Update<'a> {
    from: &'a Marginal,
    to: &'a Marginal,
    seen: &'a [Seen],
    /// Minus the length of the step.
    z: f64,
    /// Where the earlier images lie, in lengths of the step; below 0.
    r: Vec<f64>,
    weighting: Weighting,
}

impl<'a> Update<'a> {
    fn new(from: &'a Marginal, to: &'a Marginal, seen: &'a [Seen], weighting: Weighting) -> Self {
        let at = |half_log_snr: &Tensor| half_log_snr.double_value(&[]);
        let start = at(&from.half_log_snr);
        let h = at(&to.half_log_snr) - start;
        let r = seen[1..].iter().map(|earlier| (at(&earlier.half_log_snr) - start) / h).collect();
        Self { from, to, seen, z: -h, r, weighting }
    }

    /// The end of the step by earlier images alone.
    fn predicted(&self, x: &Tensor) -> Result<Tensor, DiffusionError> {
        let rho = match self.r.len() {
            0 => Vec::new(),
            1 => vec![0.5], // as in the paper: as good to this order
            _ => self.rho(&self.r)?,
        };
        Ok(self.moved(x, &rho, None))
    }

    /// The end of the step by the image that was seen there, too.
    fn corrected(&self, x: &Tensor, x_0: &Tensor) -> Result<Tensor, DiffusionError> {
        let nodes: Vec<f64> = self.r.iter().copied().chain([1.0]).collect();
        let rho = if nodes.len() == 1 { vec![0.5] } else { self.rho(&nodes)? };
        Ok(self.moved(x, &rho, Some(x_0)))
    }

    fn moved(&self, x: &Tensor, rho: &[f64], at_end: Option<&Tensor>) -> Tensor {
        let m_0 = &self.seen[0].x_0;
        let mut moved = x * (&self.to.sigma / &self.from.sigma) - m_0 * (&self.to.alpha * self.z.exp_m1());
        let earlier = self.seen[1..].iter().zip(&self.r).map(|(seen, r)| (&seen.x_0, *r));
        for ((image, r), rho) in earlier.chain(at_end.map(|image| (image, 1.0))).zip(rho) {
            moved -= (image - m_0) * (&self.to.alpha * (self.b() * rho / r));
        }
        moved
    }

    /// `B(h)`.
    fn b(&self) -> f64 {
        match self.weighting {
            Weighting::Bh1 => self.z,
            Weighting::Bh2 => self.z.exp_m1(),
        }
    }

    /// The weights for which `Σ rho_i r_i^(k − 1) = k! phi_(k + 1) / B` for `k` from 1 to their number, where `phi_(k + 1)` is
    /// `h^k` times the function of that name.
    fn rho(&self, r: &[f64]) -> Result<Vec<f64>, DiffusionError> {
        let count = r.len();
        let mut phi = self.z.exp_m1() / self.z - 1.0;
        let mut factorial = 1.0;
        let (mut powers, mut right) = (Vec::with_capacity(count * count), Vec::with_capacity(count));
        for k in 1..=count {
            powers.extend(r.iter().map(|r| r.powi(k as i32 - 1)));
            right.push(phi * factorial / self.b());
            factorial *= (k + 1) as f64;
            phi = phi / self.z - 1.0 / factorial;
        }
        let powers = Tensor::from_slice(&powers).f_view([count as i64, count as i64])?;
        let rho = Tensor::f_linalg_solve(&powers, &Tensor::from_slice(&right), true)?;
        Ok(Vec::<f64>::try_from(rho.to_kind(Kind::Double))?)
    }
}
