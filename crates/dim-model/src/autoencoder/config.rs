//! What an autoencoder is: its sizes and their checks.

use dim_torch::ParameterSpec;
use serde::{Deserialize, Serialize};

use crate::{ConfigError, config_checks::Checks, specs::Specs};

/// Groups of a group norm.
pub(super) const GROUPS: usize = 32;

/// The sizes of an autoencoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoencoderConfig {
    /// Channels of the image.
    pub in_channels: usize,
    /// Channels of the latent.
    pub latent_channels: usize,
    /// Width that `channel_mult` multiplies.
    pub channels: usize,
    /// Width of each level over `channels`; each level but the last halves the resolution.
    pub channel_mult: Vec<usize>,
    /// Residual blocks a level of the encoder; the decoder has one more.
    pub num_res_blocks: usize,
    /// What latents are multiplied by, so that they vary about as much as noise does.
    pub scaling_factor: f64,
}

impl AutoencoderConfig {
    /// KL-f8, the first stage of Stable Diffusion and of DiM: 4 channels, 8 times smaller, 83,653,863 parameters.
    #[must_use]
    pub fn kl_f8() -> Self {
        Self {
            in_channels: 3,
            latent_channels: 4,
            channels: 128,
            channel_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            scaling_factor: 0.18215,
        }
    }

    /// A network for tests.
    #[must_use]
    pub fn tiny() -> Self {
        Self { channels: 32, channel_mult: vec![1, 2, 1, 1], num_res_blocks: 1, ..Self::kl_f8() }
    }

    /// How many pixels of the image stand side by side in one of the latent.
    #[must_use]
    pub fn downsampling(&self) -> usize {
        1 << (self.channel_mult.len().max(1) - 1)
    }

    /// Width of a level, from the full resolution down.
    pub(super) fn width(&self, level: usize) -> usize {
        self.channels * self.channel_mult.get(level).copied().unwrap_or(1)
    }

    /// Levels, from the full resolution down.
    pub(super) fn levels(&self) -> usize {
        self.channel_mult.len()
    }

    /// Checks every field.
    ///
    /// # Errors
    /// All problems at once, each naming the field, what it must be and what it is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::positive(&[
            ("in_channels", self.in_channels),
            ("latent_channels", self.latent_channels),
            ("channels", self.channels),
            ("num_res_blocks", self.num_res_blocks),
        ]);
        let levels = self.channel_mult.len();
        checks.require((1..=8).contains(&levels) && !self.channel_mult.contains(&0), || {
            format!("`channel_mult` must list 1 to 8 numbers of at least 1, got {:?}", self.channel_mult)
        });
        checks.require(self.channels.is_multiple_of(GROUPS), || {
            format!("`channels` must be a multiple of {GROUPS}, the groups of a norm, got {}", self.channels)
        });
        checks.require(self.scaling_factor > 0.0 && self.scaling_factor.is_finite(), || {
            format!("`scaling_factor` must be positive, got {}", self.scaling_factor)
        });
        checks.into_result()
    }

    /// Name and shape of every parameter, as the published checkpoints have them.
    #[must_use]
    pub fn parameter_specs(&self) -> Vec<ParameterSpec> {
        let mut specs = Specs::default();
        let last = self.levels().max(1) - 1;
        let z = self.latent_channels;
        push_convolution(&mut specs, "encoder.conv_in", self.in_channels, self.channels, 3);
        let mut inputs = self.channels;
        for level in 0..self.levels() {
            for block in 0..self.num_res_blocks {
                push_residual(&mut specs, &format!("encoder.down.{level}.block.{block}"), inputs, self.width(level));
                inputs = self.width(level);
            }
            if level < last {
                push_convolution(&mut specs, &format!("encoder.down.{level}.downsample.conv"), inputs, inputs, 3);
            }
        }
        push_middle(&mut specs, "encoder", inputs);
        specs.push_norm("encoder.norm_out", inputs);
        push_convolution(&mut specs, "encoder.conv_out", inputs, 2 * z, 3);
        push_convolution(&mut specs, "decoder.conv_in", z, inputs, 3);
        push_middle(&mut specs, "decoder", inputs);
        for level in (0..self.levels()).rev() {
            for block in 0..=self.num_res_blocks {
                push_residual(&mut specs, &format!("decoder.up.{level}.block.{block}"), inputs, self.width(level));
                inputs = self.width(level);
            }
            if level > 0 {
                push_convolution(&mut specs, &format!("decoder.up.{level}.upsample.conv"), inputs, inputs, 3);
            }
        }
        specs.push_norm("decoder.norm_out", inputs);
        push_convolution(&mut specs, "decoder.conv_out", inputs, self.in_channels, 3);
        push_convolution(&mut specs, "quant_conv", 2 * z, 2 * z, 1);
        push_convolution(&mut specs, "post_quant_conv", z, z, 1);
        specs.0
    }

    /// Number of parameters.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.parameter_specs().iter().map(|spec| spec.elements().unsigned_abs()).sum()
    }
}

fn push_convolution(specs: &mut Specs, name: &str, inputs: usize, outputs: usize, side: usize) {
    specs.push(&format!("{name}.weight"), &[outputs, inputs, side, side]);
    specs.push(&format!("{name}.bias"), &[outputs]);
}

fn push_residual(specs: &mut Specs, name: &str, inputs: usize, outputs: usize) {
    specs.push_norm(&format!("{name}.norm1"), inputs);
    push_convolution(specs, &format!("{name}.conv1"), inputs, outputs, 3);
    specs.push_norm(&format!("{name}.norm2"), outputs);
    push_convolution(specs, &format!("{name}.conv2"), outputs, outputs, 3);
    if inputs != outputs {
        push_convolution(specs, &format!("{name}.nin_shortcut"), inputs, outputs, 1);
    }
}

fn push_middle(specs: &mut Specs, half: &str, width: usize) {
    push_residual(specs, &format!("{half}.mid.block_1"), width, width);
    specs.push_norm(&format!("{half}.mid.attn_1.norm"), width);
    for layer in ["q", "k", "v", "proj_out"] {
        push_convolution(specs, &format!("{half}.mid.attn_1.{layer}"), width, width, 1);
    }
    push_residual(specs, &format!("{half}.mid.block_2"), width, width);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kl_f8_has_the_published_size() {
        let config = AutoencoderConfig::kl_f8();
        assert_eq!((config.validate(), config.parameter_count(), config.downsampling()), (Ok(()), 83_653_863, 8));
        assert_eq!(AutoencoderConfig::tiny().validate(), Ok(()));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config =
            AutoencoderConfig { channels: 40, channel_mult: vec![], scaling_factor: 0.0, ..AutoencoderConfig::tiny() };
        let error = config.validate().expect_err("three problems");
        assert_eq!(error.problems.len(), 3, "{error}");
    }
}
