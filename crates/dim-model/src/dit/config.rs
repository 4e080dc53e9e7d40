//! What a DiT is: its sizes and its presets.

use serde::{Deserialize, Serialize};

use crate::{ConfigError, config_checks::Checks, grid::Grid};

/// The sizes of a DiT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DitConfig {
    /// Side of the square input, in pixels of the network's input (latents count as pixels). Other sizes run too.
    pub image_size: usize,
    /// Channels of the input and of the predicted noise.
    pub in_channels: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Heads of the attention.
    pub heads: usize,
    /// Number of classes.
    pub classes: usize,
    /// Whether label `classes` exists and means "no class".
    #[serde(default = "yes")]
    pub null_class: bool,
    /// Whether the network puts out a variance for every value beside its noise, as the published ones do. It is not trained
    /// here: the loss reads the noise alone.
    #[serde(default = "yes")]
    pub learn_sigma: bool,
}

const fn yes() -> bool {
    true
}

/// Width, depth and heads of the published sizes, by the letter in their names.
const SIZES: [(&str, usize, usize, usize); 4] =
    [("s", 384, 12, 6), ("b", 768, 12, 12), ("l", 1024, 24, 16), ("xl", 1152, 28, 16)];
/// The published patch sizes.
const PATCHES: [usize; 3] = [2, 4, 8];

impl DitConfig {
    /// A published size on 32 × 32 latents (256 px ImageNet): `dit_xl_2` is DiT-XL/2.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name == "dit_tiny" {
            return Some(Self::tiny());
        }
        let (size, patch) = name.strip_prefix("dit_")?.split_once('_')?;
        let (_, d_model, depth, heads) = SIZES.into_iter().find(|(letter, ..)| *letter == size)?;
        let patch_size = PATCHES.into_iter().find(|known| known.to_string() == patch)?;
        Some(Self {
            image_size: 32,
            in_channels: 4,
            patch_size,
            d_model,
            depth,
            heads,
            classes: 1000,
            null_class: true,
            learn_sigma: true,
        })
    }

    /// The names that [`DitConfig::named`] knows.
    #[must_use]
    pub fn names() -> Vec<String> {
        let published =
            SIZES.iter().flat_map(|(size, ..)| PATCHES.iter().map(move |patch| format!("dit_{size}_{patch}")));
        published.chain(["dit_tiny".to_owned()]).collect()
    }

    /// A network for tests: 8 × 8 RGB, width 32, 3 blocks, 3 classes, noise alone.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            image_size: 8,
            in_channels: 3,
            patch_size: 2,
            d_model: 32,
            depth: 3,
            heads: 2,
            classes: 3,
            null_class: true,
            learn_sigma: false,
        }
    }

    /// Channels of the output.
    #[must_use]
    pub fn out_channels(&self) -> usize {
        if self.learn_sigma { 2 * self.in_channels } else { self.in_channels }
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
            ("depth", self.depth),
            ("heads", self.heads),
            ("classes", self.classes),
        ]);
        checks.multiple("image_size", self.image_size, "patch_size", self.patch_size);
        checks.multiple("d_model", self.d_model, "heads", self.heads);
        // Half of it for rows, half for columns, sines and cosines each.
        checks.require(self.d_model.is_multiple_of(4), || {
            format!("`d_model` must be a multiple of 4, got {}", self.d_model)
        });
        checks.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::BackboneConfig;

    #[test]
    fn every_name_is_a_valid_network() {
        for name in DitConfig::names() {
            let config = DitConfig::named(&name).expect("a known name");
            assert_eq!(config.check(), Ok(()), "{name}");
        }
        for name in ["dit_xxl_2", "dit_xl_3", "dit_xl", "xl_2", "dit_xl_02"] {
            assert_eq!(DitConfig::named(name), None, "{name}");
        }
    }

    #[test]
    fn presets_have_the_published_parameter_counts() {
        // The published counts include the table of positions, which is not trained and not a parameter here.
        let count = |name: &str| {
            let config = DitConfig::named(name).expect("a known name");
            config.parameter_count() + (256 * config.d_model) as u64
        };
        assert_eq!(count("dit_xl_2"), 675_129_632);
        // The paper's table gives millions.
        for (name, millions) in [("dit_s_2", 33), ("dit_b_2", 130), ("dit_l_2", 458), ("dit_xl_2", 675)] {
            assert!(count(name).abs_diff(millions * 1_000_000) < 1_000_000, "{name}: {}", count(name));
        }
    }

    #[test]
    fn dit_xl_2_costs_the_published_119_gmac() {
        let config = DitConfig::named("dit_xl_2").expect("a known name");
        let gmac = config.cost(32, 32).total() as f64 / 1e9;
        assert!((gmac - 118.6).abs() < 0.15, "{gmac}");
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = DitConfig { image_size: 9, heads: 5, depth: 0, ..DitConfig::tiny() };
        let error = config.check().expect_err("three problems");
        assert_eq!(error.problems.len(), 3, "{error}");
        assert!(error.to_string().contains("`d_model` must be a multiple of `heads` = 5, got 32"), "{error}");
    }
}
