//! The parameters of a DiT, under their published names and in their published order, and how they are drawn.

use dim_torch::ParameterSpec;

use super::config::DitConfig;
use crate::{
    Cost,
    init::{Init, fan_in},
    specs::Specs,
};

/// Values of the sinusoid that feeds the time embedding.
pub(super) const TIME_FREQUENCIES: usize = 256;
/// Width of the feed-forward layers over that of the stream.
const MLP_RATIO: usize = 4;

/// Name and shape of every parameter. The table of positions, which checkpoints list as `pos_embed`, is computed, not stored.
pub(super) fn parameter_specs(config: &DitConfig) -> Vec<ParameterSpec> {
    let (d, patch) = (config.d_model, config.patch_size);
    let mut specs = Specs::default();
    specs.push("x_embedder.proj.weight", &[d, config.in_channels, patch, patch]);
    specs.push("x_embedder.proj.bias", &[d]);
    specs.push_linear("t_embedder.mlp.0", d, TIME_FREQUENCIES);
    specs.push_linear("t_embedder.mlp.2", d, d);
    specs.push_table("y_embedder.embedding_table.weight", &[config.classes + usize::from(config.null_class), d]);
    for block in 0..config.depth {
        let name = |layer: &str| format!("blocks.{block}.{layer}");
        specs.push_linear(&name("attn.qkv"), 3 * d, d);
        specs.push_linear(&name("attn.proj"), d, d);
        specs.push_linear(&name("mlp.fc1"), MLP_RATIO * d, d);
        specs.push_linear(&name("mlp.fc2"), d, MLP_RATIO * d);
        specs.push_linear(&name("adaLN_modulation.1"), 6 * d, d);
    }
    specs.push_linear("final_layer.linear", patch * patch * config.out_channels(), d);
    specs.push_linear("final_layer.adaLN_modulation.1", 2 * d, d);
    specs.0
}

/// How the authors draw a parameter: Xavier uniform, but for embeddings and what starts as zero.
pub(super) fn init(spec: &ParameterSpec) -> Init {
    match spec.name.as_str() {
        "y_embedder.embedding_table.weight" | "t_embedder.mlp.0.weight" | "t_embedder.mlp.2.weight" => {
            Init::Normal(0.02)
        }
        name if name.ends_with(".bias") || name.contains("adaLN_modulation") || name.starts_with("final_layer") => {
            Init::Constant(0.0)
        }
        #[allow(clippy::cast_precision_loss)] // sizes of layers are far below 2^53
        _ => Init::Uniform((6.0 / (fan_in(spec) + spec.shape[0] as f64)).sqrt()),
    }
}

/// Multiply-accumulates of one image of these sides.
pub(super) fn cost(config: &DitConfig, height: usize, width: usize) -> Cost {
    let (d, tokens) = (config.d_model, config.grid(height, width).patches());
    let patch = config.patch_size * config.patch_size;
    let ends = tokens * patch * d * (config.in_channels + config.out_channels());
    Cost::default()
        .and("linear maps of the blocks", config.depth * tokens * (4 + 2 * MLP_RATIO) * d * d)
        .and("attention", config.depth * 2 * tokens * tokens * d)
        .and("modulation", (config.depth * 6 + 2) * d * d)
        .and("patches, conditions, output", ends + TIME_FREQUENCIES * d + d * d)
}
