//! What an autoencoder is: its sizes and their checks.

use dim_torch::ParameterSpec;
use serde::{Deserialize, Serialize};

use super::{cost, layout::Layout, specs};
use crate::{ConfigError, Cost, config_checks::Checks, specs::Specs, weights::NameTable};

/// Groups of a group norm.
pub(crate) const GROUPS: usize = 32;

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
    /// Downsampling rates whose residual blocks have attention behind them; the middle always has it. The published
    /// `attn_resolutions` are sides of images of 256: 16 there is 16 here.
    #[serde(default)]
    pub attention_downsampling: Vec<usize>,
    /// What latents are multiplied by, so that they vary about as much as noise does.
    #[serde(default = "unscaled")]
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
            attention_downsampling: Vec::new(),
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

    /// Whether residual blocks of a level have attention behind them.
    pub(super) fn attends(&self, level: usize) -> bool {
        self.attention_downsampling.contains(&(1 << level))
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
        let rates: Vec<usize> = (0..levels.min(8)).map(|level| 1 << level).collect();
        checks.require(self.attention_downsampling.iter().all(|rate| rates.contains(rate)), || {
            format!("`attention_downsampling` must list some of {rates:?}, got {:?}", self.attention_downsampling)
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
        Layout::new(self).layers().for_each(|layer| specs::push(&mut specs, layer));
        specs.0
    }

    /// The names that its weights have in files.
    #[must_use]
    pub fn name_table(&self) -> NameTable {
        NameTable::Autoencoder { levels: self.levels() }
    }

    /// Number of parameters.
    #[must_use]
    pub fn parameter_count(&self) -> u64 {
        self.parameter_specs().iter().map(|spec| spec.elements().unsigned_abs()).sum()
    }

    /// Multiply-accumulates of encoding one image of `height` × `width` pixels.
    #[must_use]
    pub fn encode_cost(&self, height: usize, width: usize) -> Cost {
        cost::cost(&Layout::new(self).encoder, height, width)
    }

    /// Multiply-accumulates of decoding to one image of `height` × `width` pixels.
    #[must_use]
    pub fn decode_cost(&self, height: usize, width: usize) -> Cost {
        cost::cost(&Layout::new(self).decoder, height, width)
    }
}

fn unscaled() -> f64 {
    1.0
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
    fn other_factors_are_a_matter_of_configuration() {
        let config = AutoencoderConfig {
            latent_channels: 32,
            channel_mult: vec![1, 1, 2, 2, 4],
            attention_downsampling: vec![16],
            ..AutoencoderConfig::kl_f8()
        };
        assert_eq!((config.validate(), config.downsampling()), (Ok(()), 16));
        let named = |name: &str| config.parameter_specs().iter().any(|spec| spec.name == name);
        assert!(named("encoder.down.4.attn.1.q.weight") && named("decoder.up.4.attn.2.proj_out.bias"));
        assert!(!named("encoder.down.3.attn.0.q.weight"));
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = AutoencoderConfig {
            channels: 40,
            channel_mult: vec![],
            attention_downsampling: vec![3],
            scaling_factor: 0.0,
            ..AutoencoderConfig::tiny()
        };
        let error = config.validate().expect_err("four problems");
        assert_eq!(error.problems.len(), 4, "{error}");
    }
}
