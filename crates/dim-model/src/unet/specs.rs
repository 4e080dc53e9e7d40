//! The parameters of an ADM U-Net: the published names and shapes, in the order of the published state dictionary.

use dim_torch::ParameterSpec;

use super::{
    config::UnetConfig,
    layout::{Form, Layer, Layout},
};
use crate::specs::Specs;

/// Name and shape of every parameter. Published checkpoints load by these names.
pub(super) fn parameter_specs(config: &UnetConfig) -> Vec<ParameterSpec> {
    let layout = Layout::new(config);
    let embedding = config.embedding_width();
    let mut specs = Specs::default();
    specs.push_linear("time_embed.0", embedding, config.model_channels);
    specs.push_linear("time_embed.2", embedding, embedding);
    if config.labels() > 0 {
        specs.push_table("label_emb.weight", &[config.labels(), embedding]);
    }
    for layer in layout.layers() {
        push_layer(&mut specs, layer, embedding);
    }
    specs.push_norm("out.0", layout.channels);
    push_convolution(&mut specs, "out.2", config.out_channels(), &[layout.channels, 3, 3]);
    specs.0
}

fn push_layer(specs: &mut Specs, layer: &Layer, embedding: usize) {
    let part = |name: &str| format!("{}.{name}", layer.name);
    match layer.form {
        Form::Convolution { inputs, outputs } => push_convolution(specs, &layer.name, outputs, &[inputs, 3, 3]),
        Form::Residual { inputs, outputs, .. } => {
            specs.push_norm(&part("in_layers.0"), inputs);
            push_convolution(specs, &part("in_layers.2"), outputs, &[inputs, 3, 3]);
            specs.push_linear(&part("emb_layers.1"), 2 * outputs, embedding);
            specs.push_norm(&part("out_layers.0"), outputs);
            push_convolution(specs, &part("out_layers.3"), outputs, &[outputs, 3, 3]);
            if inputs != outputs {
                push_convolution(specs, &part("skip_connection"), outputs, &[inputs, 1, 1]);
            }
        }
        Form::Attention { channels } => {
            specs.push_norm(&part("norm"), channels);
            push_convolution(specs, &part("qkv"), 3 * channels, &[channels, 1]);
            push_convolution(specs, &part("proj_out"), channels, &[channels, 1]);
        }
    }
}

/// Weight `[outputs, inputs, filter…]` and bias `[outputs]`.
fn push_convolution(specs: &mut Specs, name: &str, outputs: usize, filter: &[usize]) {
    specs.push(&format!("{name}.weight"), &[&[outputs], filter].concat());
    specs.push(&format!("{name}.bias"), &[outputs]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BackboneConfig;

    #[test]
    fn published_model_has_the_published_parameter_count() {
        let config = UnetConfig::adm_256();
        assert_eq!(config.parameter_count(), 553_838_086);
        let specs = config.parameter_specs();
        let with_null = UnetConfig { null_class: true, ..config };
        assert_eq!(with_null.parameter_count(), 553_838_086 + 1024);
        let shape = |name: &str| specs.iter().find(|spec| spec.name == name).map(|spec| spec.shape.clone());
        for (name, expected) in [
            ("time_embed.0.weight", &[1024, 256][..]),
            ("label_emb.weight", &[1000, 1024]),
            ("input_blocks.0.0.weight", &[256, 3, 3, 3]),
            ("input_blocks.3.0.in_layers.0.weight", &[256]),
            ("middle_block.1.qkv.weight", &[3072, 1024, 1]),
            ("out.2.weight", &[6, 256, 3, 3]),
        ] {
            assert_eq!(shape(name).as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn unconditional_network_has_no_label_embedding() {
        let config = UnetConfig { classes: 0, ..UnetConfig::tiny() };
        assert!(config.parameter_specs().iter().all(|spec| spec.name != "label_emb.weight"));
        assert_eq!(UnetConfig::tiny().parameter_count() - config.parameter_count(), 5 * 128);
    }
}
