//! The parameters of a U-ViT, under their published names and in their published order, and how they are drawn.

use dim_torch::ParameterSpec;

use super::config::UvitConfig;
use crate::{Cost, init::Init, specs::Specs};

/// Width of the feed-forward layers over that of the stream.
const MLP_RATIO: usize = 4;

/// Name and shape of every parameter.
pub(super) fn parameter_specs(config: &UvitConfig) -> Vec<ParameterSpec> {
    let (d, c, patch) = (config.d_model, config.in_channels, config.patch_size);
    let patches = config.grid(config.image_size, config.image_size).patches();
    let mut specs = Specs::default();
    specs.push_table("pos_embed", &[1, config.extra_tokens() + patches, d]);
    specs.push("patch_embed.proj.weight", &[d, c, patch, patch]);
    specs.push("patch_embed.proj.bias", &[d]);
    if config.mlp_time_embed {
        specs.push_linear("time_embed.0", 4 * d, d);
        specs.push_linear("time_embed.2", d, 4 * d);
    }
    if config.classes > 0 {
        specs.push_table("label_emb.weight", &[config.classes + usize::from(config.null_class), d]);
    }
    let half = config.depth / 2;
    (0..half).for_each(|index| push_block(&mut specs, &format!("in_blocks.{index}"), d, false));
    push_block(&mut specs, "mid_block", d, false);
    (0..half).for_each(|index| push_block(&mut specs, &format!("out_blocks.{index}"), d, true));
    specs.push_norm("norm", d);
    specs.push_linear("decoder_pred", patch * patch * c, d);
    if config.conv {
        specs.push("final_layer.weight", &[c, c, 3, 3]);
        specs.push("final_layer.bias", &[c]);
    }
    specs.0
}

fn push_block(specs: &mut Specs, name: &str, d: usize, skip: bool) {
    let name = |layer: &str| format!("{name}.{layer}");
    specs.push_norm(&name("norm1"), d);
    specs.push(&name("attn.qkv.weight"), &[3 * d, d]);
    specs.push_linear(&name("attn.proj"), d, d);
    specs.push_norm(&name("norm2"), d);
    specs.push_linear(&name("mlp.fc1"), MLP_RATIO * d, d);
    specs.push_linear(&name("mlp.fc2"), d, MLP_RATIO * d);
    if skip {
        specs.push_linear(&name("skip_linear"), d, 2 * d);
    }
}

/// How the authors draw a parameter.
pub(super) fn init(spec: &ParameterSpec, config: &UvitConfig) -> Init {
    // PyTorch's default for a convolution: weight and bias uniform in ± 1/√(inputs of one output).
    #[allow(clippy::cast_precision_loss)] // sizes of layers are far below 2^53
    let convolution = |side: usize| Init::Uniform(((config.in_channels * side * side) as f64).powf(-0.5));
    match spec.name.as_str() {
        "label_emb.weight" => Init::Normal(1.0),
        "patch_embed.proj.weight" | "patch_embed.proj.bias" => convolution(config.patch_size),
        "final_layer.weight" | "final_layer.bias" => convolution(3),
        name if name.ends_with(".bias") => Init::Constant(0.0),
        name if name.contains("norm") => Init::Constant(1.0),
        _ => Init::Normal(0.02),
    }
}

/// Multiply-accumulates of one image of these sides.
pub(super) fn cost(config: &UvitConfig, height: usize, width: usize) -> Cost {
    let (d, patches) = (config.d_model, config.grid(height, width).patches());
    let tokens = patches + config.extra_tokens();
    let patch = config.patch_size * config.patch_size * config.in_channels;
    let time = if config.mlp_time_embed { 8 * d * d } else { 0 };
    let conv = if config.conv { 9 * config.in_channels * config.in_channels * height * width } else { 0 };
    Cost::default()
        .and("linear maps of the blocks", (config.depth + 1) * tokens * (4 + 2 * MLP_RATIO) * d * d)
        .and("attention", (config.depth + 1) * 2 * tokens * tokens * d)
        .and("long skips", config.depth / 2 * tokens * 2 * d * d)
        .and("patches, time, output", (patches + tokens) * patch * d + time + conv)
}
