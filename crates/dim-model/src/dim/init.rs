//! Fresh weights of DiM, as the authors draw them. Source: their published code.

use dim_torch::ParameterSpec;

use super::config::{DimConfig, Initialisation};
use crate::init::{Init, fan_in};

/// Standard deviation of embeddings and learned tokens.
const EMBEDDING_DEVIATION: f64 = 0.02;

#[allow(clippy::cast_precision_loss)] // sizes of layers are far below 2^53
/// How the authors draw the parameter `spec`.
pub(super) fn rule(spec: &ParameterSpec, config: &DimConfig) -> Init {
    let d_inner = config.d_inner() as f64;
    if config.initialisation == Initialisation::Identity
        && let Some(init) = identity(last_part(&spec.name))
    {
        return init;
    }
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
        // PyTorch's default for a linear map or a convolution.
        _ => Init::Uniform(fan_in(spec).powf(-0.5)),
    }
}

/// What a parameter is in a network that begins with local convolutions and conditions that change nothing.
fn identity(name: &str) -> Option<Init> {
    match name {
        "local_conv_in.weight" | "local_conv_out.weight" => Some(Init::Centre),
        "local_conv_in.bias" | "local_conv_out.bias" => Some(Init::Constant(0.0)),
        "modulation_table" | "modulation.weight" | "output.modulation.weight" => Some(Init::Constant(0.0)),
        _ => None,
    }
}

/// The name without its block: `blocks.7.mamba.d` → `mamba.d`.
fn last_part(name: &str) -> &str {
    name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')).map_or(name, |(_, rest)| rest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use dim_torch::Parameters;
    use tch::{Device, Tensor};

    use super::*;
    use crate::{BackboneConfig, init::initialise};

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
        initialise(&parameters, |spec| rule(spec, &config), 7).unwrap();
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
}
