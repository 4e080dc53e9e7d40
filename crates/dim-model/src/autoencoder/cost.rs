//! What encoding or decoding one image costs.

use super::layout::{Form, Layer};
use crate::Cost;

/// Pixels that a 3 × 3 filter reads.
const TAPS: usize = 9;

/// Multiply-accumulates of `layers` for one image of `height` × `width` pixels: those of every convolution and of both
/// products of attention. Norms, activations, softmax and additions are not counted; a pixel of padding counts as any other.
pub(super) fn cost(layers: &[Layer], height: usize, width: usize) -> Cost {
    let of = |wanted: fn(&Form) -> bool| -> usize {
        let layers = layers.iter().filter(|layer| wanted(&layer.form));
        layers.map(|layer| cost_of(layer, height, width)).sum()
    };
    Cost::default()
        .and("residual blocks", of(|form| matches!(form, Form::Residual { .. })))
        .and("attention", of(|form| matches!(form, Form::Attention { .. })))
        .and("other convolutions", of(|form| matches!(form, Form::Convolution { .. })))
}

fn cost_of(layer: &Layer, height: usize, width: usize) -> usize {
    let pixels = (height / layer.rate) * (width / layer.rate);
    match layer.form {
        Form::Norm { .. } => 0,
        Form::Convolution { inputs, outputs, side } => pixels * side * side * inputs * outputs,
        Form::Residual { inputs, outputs } => {
            let shortcut = if inputs == outputs { 0 } else { inputs * outputs };
            pixels * (TAPS * inputs * outputs + TAPS * outputs * outputs + shortcut)
        }
        Form::Attention { channels } => 4 * pixels * channels * channels + 2 * pixels * pixels * channels,
    }
}

#[cfg(test)]
mod tests {
    use crate::AutoencoderConfig;

    /// By hand, for one level of 32 channels, one residual block a level, a latent of 4 channels and an image of 8 × 8.
    #[test]
    fn one_level_costs_what_a_count_by_hand_says() {
        let config = AutoencoderConfig { channel_mult: vec![1], ..AutoencoderConfig::tiny() };
        let (pixels, residual) = (64, 2 * 9 * 32 * 32);
        let attention = 4 * pixels * 32 * 32 + 2 * pixels * pixels * 32;
        let encoder = pixels * (9 * 3 * 32 + 3 * residual + 9 * 32 * 8 + 8 * 8) + attention;
        let decoder = pixels * (4 * 4 + 9 * 4 * 32 + 4 * residual + 9 * 32 * 3) + attention;
        assert_eq!(config.encode_cost(8, 8).total(), encoder);
        assert_eq!(config.decode_cost(8, 8).total(), decoder);
    }

    #[test]
    fn convolutions_grow_with_pixels_and_attention_with_their_square() {
        let config = AutoencoderConfig::kl_f8();
        let (small, large) = (config.decode_cost(256, 256), config.decode_cost(512, 512));
        assert_eq!(large.parts[0].1, 4 * small.parts[0].1);
        assert_eq!(large.parts[2].1, 4 * small.parts[2].1);
        assert!(large.parts[1].1 > 4 * small.parts[1].1);
    }
}
