//! Fresh weights, as PyTorch draws those of a convolution and a norm that nobody initialises: so did the published autoencoders begin.

use std::collections::BTreeMap;

use super::Autoencoder;
use crate::{
    ModelError,
    init::{Init, fan_in, initialise},
};

impl Autoencoder {
    /// Draws fresh weights from `seed`: weights and biases of convolutions uniform in ± 1 / √(inputs of one output), norms 1 and 0.
    /// Parameters that are not the autoencoder's own, such as those of its loss, become 0.
    ///
    /// # Errors
    /// An error of libtorch.
    pub fn initialise(&self, seed: u64) -> Result<(), ModelError> {
        let convolutions = self.parameters.specs().iter().filter(|spec| spec.shape.len() == 4);
        let bounds: BTreeMap<&str, f64> =
            convolutions.map(|spec| (layer(&spec.name), fan_in(spec).sqrt().recip())).collect();
        let rule = |name: &str| match bounds.get(layer(name)) {
            Some(&bound) => Init::Uniform(bound),
            None if name.ends_with(".weight") => Init::Constant(1.0),
            None => Init::Constant(0.0),
        };
        initialise(&self.parameters, |spec| rule(&spec.name), seed)
    }
}

/// What a parameter's name says of its layer.
fn layer(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(layer, _)| layer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use dim_torch::Parameters;
    use tch::Device;

    use super::*;
    use crate::AutoencoderConfig;

    #[test]
    fn convolutions_are_uniform_by_their_inputs_and_norms_are_the_identity() {
        let config = AutoencoderConfig::tiny();
        let parameters = Parameters::zeros(&config.parameter_specs(), Device::Cpu).unwrap();
        let network = Autoencoder::new(config, parameters).unwrap();
        network.initialise(3).unwrap();
        let largest = |name: &str| network.parameters().get(name).unwrap().abs().max().double_value(&[]);
        let bound = (32.0f64 * 9.0).sqrt().recip();
        for part in ["weight", "bias"] {
            let found = largest(&format!("encoder.down.0.block.0.conv1.{part}"));
            assert!(found <= bound && found > 0.8 * bound, "{part}: {found} of {bound}");
        }
        let found = largest("quant_conv.weight");
        assert!(found <= 8.0f64.sqrt().recip() && found > 0.2, "{found}");
        assert_eq!((largest("decoder.norm_out.weight"), largest("decoder.norm_out.bias")), (1.0, 0.0));
        assert_eq!(network.parameters().get("encoder.mid.attn_1.norm.weight").unwrap().min().double_value(&[]), 1.0);
    }
}
