//! The parameters of a DiM: names and shapes, in the order of the authors' state dictionary.

use dim_torch::ParameterSpec;

use super::config::{DimConfig, LongSkip, PADDING, Padding, SEPARATORS};
use crate::specs::Specs;

/// Frequencies of the sinusoid that feeds the time embedding, sines and cosines counted.
pub(crate) const TIME_FREQUENCIES: usize = 256;

/// Name and shape of every parameter.
pub(super) fn parameter_specs(config: &DimConfig) -> Vec<ParameterSpec> {
    let d = config.d_model;
    let labels = config.classes + 1;
    let patch = config.patch_size * config.patch_size * config.in_channels;
    let mut specs = Specs::default();
    specs.push_table("position_table", &[2 + config.table_grid().patches(), d]);
    specs.push("patch_embed.weight", &[d, config.in_channels, config.patch_size, config.patch_size]);
    specs.push("patch_embed.bias", &[d]);
    for block in 0..config.depth {
        push_block(config, &mut specs, block);
    }
    specs.push("norm_out.weight", &[d]);
    specs.push_linear("time_embed.linear_1", d, TIME_FREQUENCIES);
    specs.push_linear("time_embed.linear_2", d, d);
    specs.push_table("class_embed.modulation", &[labels, d]);
    specs.push_linear("modulation", 3 * d, d);
    specs.push_table("class_embed.token", &[labels, d]);
    specs.push_table("separator_tokens", &[SEPARATORS, d]);
    if config.padding != Padding::None {
        specs.push_table("padding_tokens", &[PADDING, d]);
    }
    if config.local_convolution {
        for convolution in ["local_conv_in", "local_conv_out"] {
            specs.push(&format!("{convolution}.weight"), &[d, 3, 3]);
            specs.push(&format!("{convolution}.bias"), &[d]);
        }
    }
    specs.push_linear("output.proj", patch, d);
    specs.push_linear("output.modulation", 2 * d, d);
    specs.0
}

fn push_block(config: &DimConfig, specs: &mut Specs, block: usize) {
    let (d, e, n, r) = (config.d_model, config.d_inner(), config.d_state, config.dt_rank());
    let prefix = format!("blocks.{block}");
    // All tables are added to what they modify at once.
    specs.push_late_table(&format!("{prefix}.modulation_table"), &[3, d]);
    specs.push(&format!("{prefix}.norm.weight"), &[d]);
    let mamba = |name: &str| format!("{prefix}.mamba.{name}");
    specs.push_table(&mamba("a_log"), &[e, n]);
    specs.push(&mamba("d"), &[e]);
    specs.push(&mamba("in_proj.weight"), &[2 * e, d]);
    specs.push(&mamba("conv1d.weight"), &[e, config.d_conv]);
    specs.push(&mamba("conv1d.bias"), &[e]);
    specs.push(&mamba("x_proj.weight"), &[r + 2 * n, e]);
    specs.push(&mamba("dt_proj.weight"), &[e, r]);
    specs.push(&mamba("dt_proj.bias"), &[e]);
    specs.push(&mamba("out_proj.weight"), &[d, e]);
    if block >= config.first_decoder_block() {
        match config.long_skip() {
            LongSkip::OneLinear => specs.push_linear(&format!("{prefix}.long_skip"), d, 2 * d),
            LongSkip::TwoLinears => {
                specs.push_linear(&format!("{prefix}.long_skip.state"), d, d);
                specs.push_linear(&format!("{prefix}.long_skip.skip"), d, d);
            }
            LongSkip::None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BackboneConfig;

    #[test]
    fn matrices_are_the_weights_of_linear_maps_and_convolutions() {
        let config = DimConfig { padding: Padding::Lateral, ..DimConfig::dim_s_2() };
        for spec in config.parameter_specs() {
            let name = spec.name.as_str();
            let of_a_norm = name.ends_with("norm.weight") || name.starts_with("norm_out");
            // As Mamba's authors mark A and D, and as is usual for biases, norms and embeddings.
            assert_eq!(spec.matrix, name.ends_with(".weight") && !of_a_norm, "{name}");
        }
    }

    #[test]
    fn presets_have_the_published_parameter_counts() {
        let counts = [
            (DimConfig::dim_s_2(), 50_568_716, 321),
            (DimConfig::dim_l_2(), 386_063_376, 657),
            (DimConfig::dim_h_2(), 862_407_184, 657),
            (DimConfig::dim_h_2_512(), 863_586_832, 657),
        ];
        for (config, parameters, tensors) in counts {
            assert_eq!(config.parameter_count(), parameters);
            assert_eq!(config.parameter_specs().len(), tensors);
        }
    }
}
