//! Names and shapes of an autoencoder's parameters, as the published checkpoints have them.

use super::layout::{Form, Layer};
use crate::specs::Specs;

/// The parameters of one layer.
pub(super) fn push(specs: &mut Specs, Layer { name, form, .. }: &Layer) {
    match *form {
        Form::Convolution { inputs, outputs, side } => push_convolution(specs, name, inputs, outputs, side),
        Form::Norm { channels } => specs.push_norm(name, channels),
        Form::Residual { inputs, outputs } => {
            specs.push_norm(&format!("{name}.norm1"), inputs);
            push_convolution(specs, &format!("{name}.conv1"), inputs, outputs, 3);
            specs.push_norm(&format!("{name}.norm2"), outputs);
            push_convolution(specs, &format!("{name}.conv2"), outputs, outputs, 3);
            if inputs != outputs {
                push_convolution(specs, &format!("{name}.nin_shortcut"), inputs, outputs, 1);
            }
        }
        Form::Attention { channels } => {
            specs.push_norm(&format!("{name}.norm"), channels);
            for map in ["q", "k", "v", "proj_out"] {
                push_convolution(specs, &format!("{name}.{map}"), channels, channels, 1);
            }
        }
    }
}

fn push_convolution(specs: &mut Specs, name: &str, inputs: usize, outputs: usize, side: usize) {
    specs.push(&format!("{name}.weight"), &[outputs, inputs, side, side]);
    specs.push(&format!("{name}.bias"), &[outputs]);
}
