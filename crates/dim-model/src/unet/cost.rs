//! What one forward pass costs.

use super::{
    config::UnetConfig,
    layout::{Form, Layer, Layout},
};

/// Pixels that a 3 × 3 filter reads.
const TAPS: usize = 9;

impl UnetConfig {
    /// Multiply-accumulates of one image of `height` × `width` pixels: those of every convolution, of every linear map
    /// (embeddings and their projections in the blocks included) and of both products of attention, queries with keys and
    /// weights with values. Norms, activations, softmax, pooling and additions are not counted; a pixel of padding counts as
    /// any other.
    #[must_use]
    pub fn cost(&self, height: usize, width: usize) -> u64 {
        let layout = Layout::new(self);
        let embedding = self.embedding_width();
        let embeddings = self.model_channels * embedding + embedding * embedding;
        let layers: usize = layout.layers().map(|layer| cost_of(layer, embedding, height, width)).sum();
        let output = height * width * TAPS * layout.channels * self.out_channels();
        (embeddings + layers + output) as u64
    }
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
        let gmac = config.cost(256, 256) as f64 / 1e9;
        assert!((gmac / 1120.0 - 1.0).abs() < 0.01, "{gmac}");
    }
}
