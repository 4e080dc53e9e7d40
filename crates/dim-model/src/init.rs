//! Drawing fresh weights.

use dim_torch::{ParameterSpec, Parameters};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};
use tch::{Tensor, no_grad};

use crate::ModelError;

/// How one parameter is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Init {
    Constant(f64),
    /// 1 in the middle of every odd-sided square of the last two dimensions, else 0: a convolution that changes nothing.
    Centre,
    /// Uniform in ± this.
    Uniform(f64),
    /// Normal with this standard deviation.
    Normal(f64),
    /// ln 1, ln 2, … along the last dimension: A = −1, −2, … in every channel.
    LogRange,
    /// The inverse softplus of a step size, log-uniform from 1e-3 to 0.1.
    StepSize,
}

/// Draws every parameter by its rule; each depends on `seed` and its own name alone, so that adding one changes no other.
pub(crate) fn initialise(
    parameters: &Parameters,
    rule: impl Fn(&ParameterSpec) -> Init,
    seed: u64,
) -> Result<(), ModelError> {
    for (spec, tensor) in parameters.iter() {
        let values = draw(rule(spec), spec, seed);
        let fresh = Tensor::from_slice(&values).f_view(spec.shape.as_slice())?;
        no_grad(|| tensor.shallow_clone().f_copy_(&fresh))?;
    }
    Ok(())
}

/// Inputs of one output of a linear map or a convolution, whose outputs come first.
#[allow(clippy::cast_precision_loss)] // sizes of layers are far below 2^53
pub(crate) fn fan_in(spec: &ParameterSpec) -> f64 {
    spec.shape[1..].iter().product::<i64>() as f64
}

#[allow(clippy::cast_possible_truncation)] // weights are f32
pub(crate) fn draw(init: Init, spec: &ParameterSpec, seed: u64) -> Vec<f32> {
    let elements = usize::try_from(spec.elements()).unwrap_or(0);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(fnv1a(&spec.name));
    let uniform = |low: f64, high: f64, rng: &mut ChaCha8Rng| match Uniform::new_inclusive(low, high) {
        Ok(uniform) => (0..elements).map(|_| uniform.sample(rng)).collect::<Vec<f64>>(),
        Err(_) => vec![low; elements], // an empty range: a bound that is not finite, which no rule above gives
    };
    let values: Vec<f64> = match init {
        Init::Constant(value) => vec![value; elements],
        Init::Centre => {
            let square: i64 = spec.shape.iter().rev().take(2).product();
            let square = usize::try_from(square).unwrap_or(1).max(1);
            (0..elements).map(|index| f64::from(u8::from(index % square == square / 2))).collect()
        }
        Init::Uniform(bound) => uniform(-bound, bound, &mut rng),
        Init::Normal(deviation) => (0..elements)
            .map(|_| <StandardNormal as Distribution<f64>>::sample(&StandardNormal, &mut rng) * deviation)
            .collect(),
        Init::LogRange => {
            let states = spec.shape.last().map_or(1, |&states| usize::try_from(states).unwrap_or(1).max(1));
            #[allow(clippy::cast_precision_loss)]
            (0..elements).map(|index| ((index % states + 1) as f64).ln()).collect()
        }
        Init::StepSize => uniform(1e-3_f64.ln(), 0.1_f64.ln(), &mut rng)
            .into_iter()
            .map(|log_step| {
                let step = log_step.exp().max(1e-4);
                step + (-(-step).exp_m1()).ln() // softplus of this is the step
            })
            .collect(),
    };
    values.into_iter().map(|value| value as f32).collect()
}

/// FNV-1a of a name, 64 bits.
pub(crate) fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_depend_on_seed_and_name_alone() {
        let spec = ParameterSpec::new("blocks.0.mamba.in_proj.weight", &[4, 8]);
        let other = ParameterSpec::new("blocks.1.mamba.in_proj.weight", &[4, 8]);
        assert_eq!(draw(Init::Uniform(1.0), &spec, 1), draw(Init::Uniform(1.0), &spec, 1));
        assert_ne!(draw(Init::Uniform(1.0), &spec, 1), draw(Init::Uniform(1.0), &spec, 2));
        assert_ne!(draw(Init::Uniform(1.0), &spec, 1), draw(Init::Uniform(1.0), &other, 1));
    }
}
