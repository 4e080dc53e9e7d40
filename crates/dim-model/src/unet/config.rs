//! What an ADM U-Net is: its sizes, its presets and their checks.

use serde::{Deserialize, Serialize};

use super::norm::GROUPS;
use crate::{ConfigError, config_checks::Checks};

/// The sizes of an ADM U-Net.
///
/// What the published ImageNet models have in common is fixed: residual blocks that resample (`resblock_updown`), group norms
/// that the embedding scales and shifts (`use_scale_shift_norm`), and heads outside queries, keys and values
/// (`use_new_attention_order = False`). Dropout, 0 at 256 px, is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetConfig {
    /// Side of the square images that the network is meant for, in pixels. Nothing depends on it: other sizes run too.
    pub image_size: usize,
    /// Channels of the input and of the predicted noise.
    pub in_channels: usize,
    /// Width that `channel_mult` multiplies; that of the sinusoid of the time, and a quarter of the embeddings' width.
    pub model_channels: usize,
    /// Width of each level over `model_channels`, from the full resolution down; each level halves the resolution.
    pub channel_mult: Vec<usize>,
    /// Residual blocks a level on the way down; one more on the way up.
    pub num_res_blocks: usize,
    /// Downsampling rates (1, 2, 4, …) of the levels with attention: at 256 px `[8, 16, 32]` are the published resolutions
    /// 32, 16 and 8. The middle always has it.
    pub attention_downsampling: Vec<usize>,
    /// Channels of an attention head.
    pub num_head_channels: usize,
    /// Number of classes; 0 for a network that takes none.
    pub classes: usize,
    /// Whether label `classes` means "no class", as guidance without a classifier needs. The published models have no such
    /// label.
    #[serde(default)]
    pub null_class: bool,
    /// Whether a second set of channels predicts the variance.
    pub learn_sigma: bool,
}

/// Makes a preset's configuration.
type Preset = fn() -> UnetConfig;

impl UnetConfig {
    /// ADM on 256 × 256 RGB images of 1000 classes (ImageNet): 553,838,086 parameters.
    #[must_use]
    pub fn adm_256() -> Self {
        Self {
            image_size: 256,
            in_channels: 3,
            model_channels: 256,
            channel_mult: vec![1, 1, 2, 2, 4, 4],
            num_res_blocks: 2,
            attention_downsampling: vec![8, 16, 32],
            num_head_channels: 64,
            classes: 1000,
            null_class: false,
            learn_sigma: true,
        }
    }

    /// A network for tests: 16 × 16 RGB, three levels, 5 classes.
    #[must_use]
    pub fn tiny() -> Self {
        Self {
            image_size: 16,
            in_channels: 3,
            model_channels: 32,
            channel_mult: vec![1, 2, 2],
            num_res_blocks: 1,
            attention_downsampling: vec![2, 4],
            num_head_channels: 16,
            classes: 5,
            null_class: false,
            learn_sigma: true,
        }
    }

    /// The preset called `name`, such as `adm_256`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::PRESETS.iter().find(|(known, _)| *known == name).map(|(_, preset)| preset())
    }

    /// Every preset by name.
    pub const PRESETS: [(&'static str, Preset); 2] = [("adm_256", Self::adm_256), ("unet_tiny", Self::tiny)];

    /// The label that means "no class", where there is one.
    #[must_use]
    pub fn null_label(&self) -> Option<usize> {
        self.null_class.then_some(self.classes)
    }

    /// Rows of the label embedding; none for a network that takes no class.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.classes + usize::from(self.null_class)
    }

    /// Channels of everything that the network predicts.
    #[must_use]
    pub fn out_channels(&self) -> usize {
        if self.learn_sigma { 2 * self.in_channels } else { self.in_channels }
    }

    /// Width of the embedding of time and class.
    #[must_use]
    pub fn embedding_width(&self) -> usize {
        4 * self.model_channels
    }

    /// The number that height and width must be multiples of: the lowest level's downsampling rate.
    #[must_use]
    pub fn largest_downsampling(&self) -> usize {
        self.downsampling().last().unwrap_or(1)
    }

    /// Downsampling rate of each level.
    fn downsampling(&self) -> impl Iterator<Item = usize> {
        (0..self.channel_mult.len()).map(|level| 1 << level)
    }

    /// Every problem of the fields at once.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::positive(&[
            ("image_size", self.image_size),
            ("in_channels", self.in_channels),
            ("model_channels", self.model_channels),
            ("num_res_blocks", self.num_res_blocks),
            ("num_head_channels", self.num_head_channels),
        ]);
        let levels = self.channel_mult.len();
        if levels == 0 || levels > MOST_LEVELS || self.channel_mult.contains(&0) {
            checks.require(false, || {
                format!(
                    "`channel_mult` must list 1 to {MOST_LEVELS} numbers of at least 1, got {:?}",
                    self.channel_mult
                )
            });
        } else {
            self.check_levels(&mut checks);
        }
        checks.require(self.model_channels.is_multiple_of(2), || {
            format!("`model_channels` must be even (half cosines, half sines), got {}", self.model_channels)
        });
        checks.into_result()
    }

    /// What depends on the levels.
    fn check_levels(&self, checks: &mut Checks) {
        let largest = self.largest_downsampling();
        checks.require(self.image_size.is_multiple_of(largest), || {
            format!(
                "`image_size` must be a multiple of {largest}, the lowest level's downsampling rate, got {}",
                self.image_size
            )
        });
        for rate in &self.attention_downsampling {
            checks.require(self.downsampling().any(|known| known == *rate), || {
                let known: Vec<usize> = self.downsampling().collect();
                format!("`attention_downsampling` must list some of {known:?}, got {rate}")
            });
        }
        for (rate, mult) in self.downsampling().zip(&self.channel_mult) {
            let width = mult * self.model_channels;
            checks.require(width.is_multiple_of(GROUPS), || {
                format!(
                    "`model_channels` times each of `channel_mult` must be a multiple of {GROUPS}, the groups of a norm, got {width}"
                )
            });
            // The middle, at the lowest level, has attention always.
            let attends = rate == largest || self.attention_downsampling.contains(&rate);
            let heads = self.num_head_channels;
            checks.require(!attends || heads == 0 || width.is_multiple_of(heads), || {
                format!(
                    "`num_head_channels` must divide the width of every level with attention, got {heads} for width {width}"
                )
            });
        }
    }
}

/// More levels than any image has halvings.
const MOST_LEVELS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_found_by_name() {
        for (name, preset) in UnetConfig::PRESETS {
            assert_eq!(preset().check(), Ok(()), "{name}");
            assert_eq!(UnetConfig::named(name), Some(preset()));
        }
        assert_eq!(UnetConfig::named("adm_1024"), None);
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = UnetConfig {
            image_size: 18,
            in_channels: 0,
            model_channels: 40,
            channel_mult: vec![4, 4, 1],
            attention_downsampling: vec![2, 3, 8],
            ..UnetConfig::tiny()
        };
        let error = config.check().expect_err("six problems");
        // In the order of the checks; the widths 160 fit groups and heads, the width 40 neither.
        assert_eq!(error.problems.len(), 6, "{error}");
        for part in ["`in_channels`", "multiple of 4", "got 3", "got 8", "groups of a norm, got 40", "for width 40"] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        let config = UnetConfig { channel_mult: Vec::new(), model_channels: 33, ..UnetConfig::tiny() };
        assert_eq!(config.check().expect_err("two problems").problems.len(), 2);
    }

    #[test]
    fn unknown_field_is_an_error_and_the_null_class_is_off_by_default() {
        let json = r#"{"image_size":16,"in_channels":3,"model_channels":32,"channel_mult":[1,2,2],"num_res_blocks":1,
            "attention_downsampling":[2,4],"num_head_channels":16,"classes":5,"learn_sigma":true}"#;
        assert_eq!(serde_json::from_str::<UnetConfig>(json).ok(), Some(UnetConfig::tiny()));
        let with_more = json.replacen('{', r#"{"dropout":0.1,"#, 1);
        assert!(serde_json::from_str::<UnetConfig>(&with_more).is_err());
    }
}
