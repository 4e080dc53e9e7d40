//! What a U-ViT is: its sizes and its presets.

use serde::{Deserialize, Serialize};

use crate::{ConfigError, config_checks::Checks, grid::Grid};

/// The sizes of a U-ViT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UvitConfig {
    /// Side of the square input that the position table is made for, in pixels of the network's input (latents count as
    /// pixels). Other sizes run too: the table is interpolated.
    pub image_size: usize,
    /// Channels of the input and of the predicted noise.
    pub in_channels: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks besides the middle one; even.
    pub depth: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// Number of classes; 0: the network takes none.
    pub classes: usize,
    /// Whether label `classes` exists and means "no class".
    #[serde(default = "yes")]
    pub null_class: bool,
    /// Whether two linear maps stand between the sinusoid of the time and its token.
    #[serde(default)]
    pub mlp_time_embed: bool,
    /// Whether a 3 × 3 convolution follows at the end.
    #[serde(default = "yes")]
    pub conv: bool,
}

const fn yes() -> bool {
    true
}

/// Makes a preset's configuration.
type Preset = fn() -> UvitConfig;

impl UvitConfig {
    /// U-ViT-S/2 on 32 × 32 RGB images without classes (CIFAR-10).
    #[must_use]
    pub fn uvit_s_2() -> Self {
        Self { in_channels: 3, classes: 0, ..Self::on_latents(32, 2, 512, 12, 8, true) }
    }

    /// U-ViT-M/4 on 64 × 64 RGB images (ImageNet).
    #[must_use]
    pub fn uvit_m_4() -> Self {
        Self { in_channels: 3, null_class: false, ..Self::on_latents(64, 4, 768, 16, 12, true) }
    }

    /// U-ViT-L/2 on 32 × 32 latents (256 px ImageNet).
    #[must_use]
    pub fn uvit_l_2() -> Self {
        Self::on_latents(32, 2, 1024, 20, 16, true)
    }

    /// U-ViT-L/4 on 64 × 64 latents (512 px ImageNet).
    #[must_use]
    pub fn uvit_l_4() -> Self {
        Self::on_latents(64, 4, 1024, 20, 16, true)
    }

    /// U-ViT-H/2 on 32 × 32 latents (256 px ImageNet): 500,832,016 parameters.
    #[must_use]
    pub fn uvit_h_2() -> Self {
        Self::on_latents(32, 2, 1152, 28, 16, false)
    }

    /// U-ViT-H/4 on 64 × 64 latents (512 px ImageNet).
    #[must_use]
    pub fn uvit_h_4() -> Self {
        Self::on_latents(64, 4, 1152, 28, 16, false)
    }

    /// A network for tests: 8 × 8 RGB, width 32, 2 + 1 blocks, 3 classes.
    #[must_use]
    pub fn tiny() -> Self {
        Self { in_channels: 3, classes: 3, ..Self::on_latents(8, 2, 32, 2, 2, false) }
    }

    /// Every preset by name.
    pub const PRESETS: [(&'static str, Preset); 7] = [
        ("uvit_s_2", Self::uvit_s_2),
        ("uvit_m_4", Self::uvit_m_4),
        ("uvit_l_2", Self::uvit_l_2),
        ("uvit_l_4", Self::uvit_l_4),
        ("uvit_h_2", Self::uvit_h_2),
        ("uvit_h_4", Self::uvit_h_4),
        ("uvit_tiny", Self::tiny),
    ];

    fn on_latents(
        image_size: usize,
        patch_size: usize,
        d_model: usize,
        depth: usize,
        heads: usize,
        conv: bool,
    ) -> Self {
        Self {
            image_size,
            in_channels: 4,
            patch_size,
            d_model,
            depth,
            heads,
            classes: 1000,
            null_class: true,
            mlp_time_embed: false,
            conv,
        }
    }

    /// Tokens before the patches: the class, if there are classes, and the time.
    #[must_use]
    pub fn extra_tokens(&self) -> usize {
        1 + usize::from(self.classes > 0)
    }

    /// The patch grid of an input of these sides.
    pub(super) fn grid(&self, height: usize, width: usize) -> Grid {
        Grid { rows: height / self.patch_size, columns: width / self.patch_size }
    }

    /// Every problem of the fields at once.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::positive(&[
            ("image_size", self.image_size),
            ("in_channels", self.in_channels),
            ("patch_size", self.patch_size),
            ("d_model", self.d_model),
            ("heads", self.heads),
        ]);
        checks.multiple("image_size", self.image_size, "patch_size", self.patch_size);
        checks.multiple("d_model", self.d_model, "heads", self.heads);
        checks.require(self.d_model.is_multiple_of(2), || {
            format!("`d_model` must be even (half sines, half cosines), got {}", self.d_model)
        });
        checks.require(self.depth >= 2 && self.depth.is_multiple_of(2), || {
            format!(
                "`depth` must be even and at least 2 (as many blocks after the middle as before), got {}",
                self.depth
            )
        });
        checks.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::BackboneConfig;

    #[test]
    fn presets_are_valid_and_of_the_published_size() {
        for (name, preset) in UvitConfig::PRESETS {
            assert_eq!(preset().check(), Ok(()), "{name}");
        }
        // The paper's table gives 44, 131, 287 and 501 million.
        for (config, millions) in [
            (UvitConfig::uvit_s_2(), 44),
            (UvitConfig::uvit_m_4(), 131),
            (UvitConfig::uvit_l_2(), 287),
            (UvitConfig::uvit_h_2(), 501),
        ] {
            let count = config.parameter_count() as f64 / 1e6;
            assert!((count - f64::from(millions)).abs() < 1.0, "{count} M, {millions} M published");
        }
        assert_eq!(UvitConfig::uvit_h_2().parameter_count(), 500_832_016);
    }

    #[test]
    fn uvit_h_2_costs_the_published_133_gmac() {
        let gmac = UvitConfig::uvit_h_2().cost(32, 32).total() as f64 / 1e9;
        assert!((gmac - 133.25).abs() < 0.5, "{gmac}");
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = UvitConfig { depth: 3, d_model: 33, ..UvitConfig::tiny() };
        let error = config.check().expect_err("three problems");
        assert_eq!(error.problems.len(), 3, "{error}");
    }
}
