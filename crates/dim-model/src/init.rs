//! Fresh weights, as the authors draw them. Source: their published code; distributions in the comments below.

use dim_torch::{ParameterSpec, Parameters};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal, Uniform};
use tch::{Tensor, no_grad};

use crate::{ModelError, config::DimConfig};

/// How one parameter is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Init {
    Constant(f64),
    /// Uniform in ± this.
    Uniform(f64),
    /// Normal with this standard deviation.
    Normal(f64),
    /// ln 1, ln 2, … along the last dimension: A = −1, −2, … in every channel.
    LogRange,
    /// The inverse softplus of a step size, log-uniform from 1e-3 to 0.1.
    StepSize,
}

/// Standard deviation of embeddings and learned tokens.
const EMBEDDING_DEVIATION: f64 = 0.02;

/// Draws every parameter; each depends on `seed` and its own name alone, so that adding one changes no other.
pub(crate) fn initialise(parameters: &Parameters, config: &DimConfig, seed: u64) -> Result<(), ModelError> {
    for (spec, tensor) in parameters.iter() {
        let values = draw(rule(spec, config), spec, seed);
        let fresh = Tensor::from_slice(&values).f_view(spec.shape.as_slice())?;
        no_grad(|| tensor.shallow_clone().f_copy_(&fresh))?;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // sizes of layers are far below 2^53
fn rule(spec: &ParameterSpec, config: &DimConfig) -> Init {
    // PyTorch's default for a linear map or a convolution: uniform in ± 1/√(inputs of one output).
    let fan_in = || (spec.shape[1..].iter().product::<i64>() as f64).powf(-0.5);
    let d_inner = config.d_inner() as f64;
    match last_part(&spec.name) {
        "position_table" => Init::Constant(0.0),
        "modulation_table" => Init::Normal((config.d_model as f64).powf(-0.5)),
        "mamba.a_log" => Init::LogRange,
        "mamba.d" | "norm.weight" | "norm_out.weight" => Init::Constant(1.0),
        "mamba.conv1d.weight" | "mamba.conv1d.bias" => Init::Uniform((config.d_conv as f64).powf(-0.5)),
        "mamba.dt_proj.weight" => Init::Uniform((config.dt_rank() as f64).powf(-0.5)),
        "mamba.dt_proj.bias" => Init::StepSize,
        // Scaled down with depth, as in GPT-2, for the residual stream sums all of them.
        "mamba.out_proj.weight" => Init::Uniform(d_inner.powf(-0.5) / (config.depth as f64).sqrt()),
        "patch_embed.weight" | "patch_embed.bias" => {
            let inputs = config.in_channels * config.patch_size * config.patch_size;
            Init::Uniform((inputs as f64).powf(-0.5))
        }
        "local_conv_in.weight" | "local_conv_in.bias" | "local_conv_out.weight" | "local_conv_out.bias" => {
            Init::Uniform(1.0 / 3.0)
        }
        "time_embed.linear_1.weight"
        | "time_embed.linear_2.weight"
        | "class_embed.modulation"
        | "class_embed.token"
        | "separator_tokens"
        | "padding_tokens" => Init::Normal(EMBEDDING_DEVIATION),
        name if name.ends_with(".bias") => Init::Constant(0.0),
        _ => Init::Uniform(fan_in()),
    }
}

/// The name without its block: `blocks.7.mamba.d` → `mamba.d`.
fn last_part(name: &str) -> &str {
    name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')).map_or(name, |(_, rest)| rest)
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
#[allow(clippy::unwrap_used)]
mod tests {
    use tch::Device;

    use super::*;

    /// (lowest, highest, mean, deviation) of a parameter of a fresh network.
    fn moments(parameters: &Parameters, name: &str) -> (f64, f64, f64, f64) {
        let tensor = parameters.get(name).unwrap().detach();
        let double = |tensor: Tensor| tensor.double_value(&[]);
        (double(tensor.min()), double(tensor.max()), double(tensor.mean(None)), double(tensor.std(true)))
    }

    #[test]
    fn every_group_has_the_range_that_the_authors_draw_from() {
        let config = DimConfig { d_model: 128, depth: 9, ..DimConfig::tiny() };
        let parameters = Parameters::zeros(&config.parameter_specs(), Device::Cpu).unwrap();
        initialise(&parameters, &config, 7).unwrap();
        let bounds = [
            ("blocks.3.mamba.in_proj.weight", 128_f64.powf(-0.5)),
            ("blocks.3.mamba.x_proj.weight", 256_f64.powf(-0.5)),
            ("blocks.3.mamba.out_proj.weight", 256_f64.powf(-0.5) / 3.0),
            ("blocks.3.mamba.dt_proj.weight", 8_f64.powf(-0.5)),
            ("blocks.3.mamba.conv1d.weight", 3_f64.powf(-0.5)),
            ("blocks.7.long_skip.weight", 256_f64.powf(-0.5)),
            ("local_conv_in.weight", 1.0 / 3.0),
            ("patch_embed.weight", 12_f64.powf(-0.5)),
            ("output.proj.weight", 128_f64.powf(-0.5)),
            ("modulation.weight", 128_f64.powf(-0.5)),
        ];
        for (name, bound) in bounds {
            let (low, high, mean, deviation) = moments(&parameters, name);
            assert!(low >= -bound && high <= bound && high > 0.9 * bound && low < -0.9 * bound, "{name}: {low} {high}");
            assert!(mean.abs() < 0.1 * bound, "{name}: mean {mean}");
            assert!((deviation / (bound / 3_f64.sqrt()) - 1.0).abs() < 0.1, "{name}: deviation {deviation}");
        }
        for (name, expected) in
            [("time_embed.linear_1.weight", 0.02), ("blocks.0.modulation_table", 128_f64.powf(-0.5))]
        {
            let (.., deviation) = moments(&parameters, name);
            assert!((deviation / expected - 1.0).abs() < 0.15, "{name}: deviation {deviation}");
        }
        for (name, value) in [("position_table", 0.0), ("blocks.1.mamba.d", 1.0), ("norm_out.weight", 1.0)] {
            let (low, high, ..) = moments(&parameters, name);
            assert_eq!((low, high), (value, value), "{name}");
        }
        let steps = parameters.get("blocks.2.mamba.dt_proj.bias").unwrap().detach().softplus();
        let (low, high) = (steps.min().double_value(&[]), steps.max().double_value(&[]));
        assert!(low >= 0.99e-3 && high <= 0.101 && high / low > 20.0, "{low} {high}");
        let a = parameters.get("blocks.2.mamba.a_log").unwrap().detach().exp();
        assert!((a.double_value(&[5, 15]) - 16.0).abs() < 1e-5 && (a.double_value(&[5, 0]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn weights_depend_on_seed_and_name_alone() {
        let spec = ParameterSpec::new("blocks.0.mamba.in_proj.weight", &[4, 8]);
        let other = ParameterSpec::new("blocks.1.mamba.in_proj.weight", &[4, 8]);
        assert_eq!(draw(Init::Uniform(1.0), &spec, 1), draw(Init::Uniform(1.0), &spec, 1));
        assert_ne!(draw(Init::Uniform(1.0), &spec, 1), draw(Init::Uniform(1.0), &spec, 2));
        assert_ne!(draw(Init::Uniform(1.0), &spec, 1), draw(Init::Uniform(1.0), &other, 1));
    }
}
