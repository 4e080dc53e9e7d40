//! Single-step DPM-Solver and DPM-Solver++, orders 1 to 3.
//!
//! Lu et al., "DPM-Solver", arXiv 2206.00927 (noise prediction: algorithms 1 and 2, and "fast" of section 3.4), and
//! "DPM-Solver++", arXiv 2211.01095 (data prediction: section 4 and appendix A). DiM's samples are made by 50
//! evaluations of the data-prediction solver of order 3 on uniform times.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{
    Observer, SamplerInputs,
    run::{Marginal, Run},
    time_grid::{self, uniform_times},
};
use crate::DiffusionError;

/// What the solver integrates exactly and what it extrapolates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Parametrization {
    /// Extrapolates the clean image (DPM-Solver++), which bears strong guidance better.
    #[default]
    Data,
    /// Extrapolates the noise (DPM-Solver).
    Noise,
}

/// Options of [`dpm_solver`]; the default is DiM's evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DpmSolverOptions {
    /// How many times the network is called.
    pub steps: usize,
    /// The highest order of a solver step, 1 to 3; the last steps have lower orders if `steps` leaves a remainder.
    pub order: usize,
    /// What is extrapolated.
    pub parametrization: Parametrization,
    /// The time of the initial state.
    pub t_start: f64,
    /// The time of the result.
    pub t_end: f64,
}

impl Default for DpmSolverOptions {
    fn default() -> Self {
        Self { steps: 50, order: 3, parametrization: Parametrization::Data, t_start: 1.0, t_end: 1e-3 }
    }
}

impl DpmSolverOptions {
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

    /// The orders of the solver's steps, which together call the network `steps` times.
    ///
    /// As many steps of `order` as fit, then one of the remainder; for order 3 without remainder, the last three
    /// evaluations are a step of order 2 and one of order 1.
    ///
    /// # Errors
    /// If an option has a value it cannot have.
    pub fn orders(&self) -> Result<Vec<usize>, DiffusionError> {
        self.validate()?;
        let mut orders = vec![self.order; self.steps / self.order];
        let remainder = self.steps % self.order;
        if remainder > 0 {
            orders.push(remainder);
        } else if self.order == 3 {
            orders.pop();
            orders.extend([2, 1]);
        }
        Ok(orders)
    }
}

/// Samples with single-step DPM-Solver from `t_start` to `t_end`.
///
/// # Errors
/// See [`Sampler::sample`](super::Sampler::sample).
pub fn dpm_solver(
    inputs: &SamplerInputs<'_>,
    options: &DpmSolverOptions,
    observer: &mut Observer<'_>,
) -> Result<Tensor, DiffusionError> {
    let orders = options.orders()?;
    let _no_grad = tch::no_grad_guard();
    let times = uniform_times(inputs.first_time(options.t_start), options.t_end, options.steps, inputs.x.kind());
    let time = |i: usize| times.get(i as i64);

    let mut solver = Solver {
        run: Run::start(inputs, orders.len(), [&time(0), &time(options.steps)], observer)?,
        parametrization: options.parametrization,
    };
    let mut x = inputs.x.shallow_clone();
    let mut node = 0;
    for (step, &order) in orders.iter().enumerate() {
        let nodes: Vec<Marginal> = (node..=node + order).map(|i| solver.run.marginal(time(i))).collect();
        x = solver.step(&x, &nodes)?;
        node += order;
        solver.run.finished(step + 1, &time(node), &x)?;
    }
    Ok(x)
}

/// How far along a step its inner nodes lie, as fractions `r1`, `r2` of the whole in half the log signal-to-noise
/// ratio, which is given for the step's start, inner and end nodes.
pub(crate) fn inner_fractions(half_log_snr: &[Tensor]) -> Vec<Tensor> {
    let [start, inner @ .., end] = half_log_snr else {
        return Vec::new();
    };
    let whole = end - start;
    inner.iter().map(|node| (node - start) / &whole).collect()
}

struct Solver<'a, 'o, 'f> {
    run: Run<'a, 'o, 'f>,
    parametrization: Parametrization,
}

impl Solver<'_, '_, '_> {
    /// One step over `nodes`, its start, inner and end times; its order is their number less one.
    fn step(&mut self, x: &Tensor, nodes: &[Marginal]) -> Result<Tensor, DiffusionError> {
        let (start, end) = (&nodes[0], &nodes[nodes.len() - 1]);
        let h = &end.half_log_snr - &start.half_log_snr;
        let z = self.exponent(&h);
        let m_0 = self.model(x, start)?;
        let straight = self.first_order(x, &m_0, start, end, &h);
        let along: Vec<Tensor> = nodes.iter().map(|n| n.half_log_snr.shallow_clone()).collect();
        match &inner_fractions(&along)[..] {
            [] => Ok(straight),
            [r_1] => {
                let d_1 = self.inner_difference(x, &m_0, start, &h, r_1)?;
                Ok(straight - d_1 * (0.5 / r_1 * (self.gained(end) * z.expm1())))
            }
            [r_1, r_2, ..] => {
                let d_1 = self.inner_difference(x, &m_0, start, &h, r_1)?;
                let inner = self.run.marginal_between(start, &h, r_2);
                let curvature = phi(&(r_2 * &z));
                let x_2 = self.first_order(x, &m_0, start, &inner, &(r_2 * &h))
                    - d_1 * (r_2 / r_1 * (self.gained(&inner) * curvature));
                let d_2 = self.model(&x_2, &inner)? - &m_0;
                Ok(straight - d_2 * (1.0 / r_2 * (self.gained(end) * phi(&z))))
            }
        }
    }

    /// How the model at the inner node `r` differs from the model at the start.
    fn inner_difference(
        &mut self,
        x: &Tensor,
        m_0: &Tensor,
        start: &Marginal,
        h: &Tensor,
        r: &Tensor,
    ) -> Result<Tensor, DiffusionError> {
        let inner = self.run.marginal_between(start, h, r);
        let x_1 = self.first_order(x, m_0, start, &inner, &(r * h));
        Ok(self.model(&x_1, &inner)? - m_0)
    }

    /// The first-order solution at `to`, a distance `h` from `start`, for a model that stays `m_0`.
    fn first_order(&self, x: &Tensor, m_0: &Tensor, start: &Marginal, to: &Marginal, h: &Tensor) -> Tensor {
        x * (self.kept(to) / self.kept(start)) - m_0 * (self.gained(to) * self.exponent(h).expm1())
    }

    fn model(&mut self, x: &Tensor, at: &Marginal) -> Result<Tensor, DiffusionError> {
        match self.parametrization {
            Parametrization::Data => self.run.x_0(x, at),
            Parametrization::Noise => self.run.noise(x, at),
        }
    }

    /// The share that scales the state along the exact linear part of the ODE.
    fn kept<'m>(&self, at: &'m Marginal) -> &'m Tensor {
        match self.parametrization {
            Parametrization::Data => &at.sigma,
            Parametrization::Noise => &at.alpha,
        }
    }

    /// The share with which the model enters. Both parametrizations obey one formula with the two shares, and the
    /// sign of `h`, exchanged.
    fn gained<'m>(&self, at: &'m Marginal) -> &'m Tensor {
        match self.parametrization {
            Parametrization::Data => &at.alpha,
            Parametrization::Noise => &at.sigma,
        }
    }

    fn exponent(&self, h: &Tensor) -> Tensor {
        match self.parametrization {
            Parametrization::Data => -h,
            Parametrization::Noise => h.shallow_clone(),
        }
    }
}

/// `(e^z - 1) / z - 1`, the weight of the model's slope.
fn phi(z: &Tensor) -> Tensor {
    z.expm1() / z - 1.0
}
