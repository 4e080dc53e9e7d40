//! What one forward pass costs.

use super::{
    config::UnetConfig,
    layout::{Form, Layer, Layout},
};

use crate::Cost;

/// Pixels that a 3 × 3 filter reads.
const TAPS: usize = 9;

/// Multiply-accumulates of one image of `height` × `width` pixels: those of every convolution, of every linear map
/// (embeddings and their projections in the blocks included) and of both products of attention, queries with keys and
/// weights with values. Norms, activations, softmax, pooling and additions are not counted; a pixel of padding counts as
/// any other.
pub(super) fn cost(config: &UnetConfig, height: usize, width: usize) -> Cost {
    let layout = Layout::new(config);
    let embedding = config.embedding_width();
    let of = |wanted: fn(&Form) -> bool| -> usize {
        let layers = layout.layers().filter(|layer| wanted(&layer.form));
        layers.map(|layer| cost_of(layer, embedding, height, width)).sum()
    };
    let output = height * width * TAPS * layout.channels * config.out_channels();
    let ends = of(|form| matches!(form, Form::Convolution { .. })) + output;
    Cost::default()
        .and("residual blocks", of(|form| matches!(form, Form::Residual { .. })))
        .and("attention", of(|form| matches!(form, Form::Attention { .. })))
        .and("embeddings, first and last convolution", ends + config.model_channels * embedding + embedding * embedding)
}

fn cost_of(layer: &Layer, embedding: usize, height: usize, width: usize) -> usize {
    let pixels = (height / layer.rate) * (width / layer.rate);
    match layer.form {
        Form::Convolution { inputs, outputs } => pixels * TAPS * inputs * outputs,
        Form::Residual { inputs, outputs, .. } => {
            let skip = if inputs == outputs { 0 } else { inputs * outputs };
            pixels * (TAPS * inputs * outputs + TAPS * outputs * outputs + skip) + embedding * 2 * outputs
        }
        Form::Attention { channels } => {
            let projections = pixels * (3 * channels * channels + channels * channels);
            projections + 2 * pixels * pixels * channels
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adm_256_costs_about_1120_gmac() {
        let config = UnetConfig::adm_256();
        let gmac = cost(&config, 256, 256).total() as f64 / 1e9;
        assert!((gmac / 1120.0 - 1.0).abs() < 0.01, "{gmac}");
    }
}
