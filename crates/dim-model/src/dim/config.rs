//! What a DiM is: its sizes, its presets and their checks.

use serde::{Deserialize, Serialize};

use crate::{ConfigError, config_checks::Checks, grid::Grid};

/// Extra tokens at the end of every row and below the grid: the width of the padding.
pub(crate) const PADDING: usize = 3;
/// Tokens before the grid: time, class and three separators.
pub(crate) const PREFIX: usize = 2 + SEPARATORS;
/// Learned tokens between the conditions and the grid.
pub(crate) const SEPARATORS: usize = 3;
/// Largest width at which the authors join stream and skip with one linear map of both.
const WIDEST_ONE_LINEAR: usize = 512;

/// How the three learned padding tokens are laid out below the grid; at the end of rows both are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// Each bottom row repeats one token (the 256 px models).
    Lateral,
    /// The tokens cycle along the bottom rows, one row continuing the last (`rho_pad`, 512 px and up).
    Rho,
    /// No padding tokens, and none in the parameters: to measure what they are worth.
    None,
}

impl Padding {
    /// Tokens added to every row, and rows added below.
    #[must_use]
    pub(crate) const fn width(self) -> usize {
        match self {
            Self::Lateral | Self::Rho => PADDING,
            Self::None => 0,
        }
    }
}

/// How a decoder block joins the stream with its long skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongSkip {
    /// One linear map of both, side by side.
    OneLinear,
    /// A linear map each, added.
    TwoLinears,
    /// No long skips: the stream goes on as it is.
    None,
}

/// How fresh weights are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initialisation {
    /// As the authors' code draws them.
    #[default]
    Published,
    /// The same, but the local convolutions begin as the identity, and what conditions do to a block as nothing at all.
    Identity,
}

/// The sizes of a DiM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DimConfig {
    /// Side of the square input that the position table is made for, in pixels of the network's input (latents count
    /// as pixels). Other sizes run too: the table is interpolated.
    pub image_size: usize,
    /// Channels of the input and of the predicted noise.
    pub in_channels: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks; odd, at least 3.
    pub depth: usize,
    /// Number of classes; label `classes` means "no class".
    pub classes: usize,
    /// Layout of the padding tokens.
    pub padding: Padding,
    /// States a channel.
    #[serde(default = "default_d_state")]
    pub d_state: usize,
    /// Width of the causal convolution.
    #[serde(default = "default_d_conv")]
    pub d_conv: usize,
    /// `d_inner` = `expand` · `d_model`.
    #[serde(default = "default_expand")]
    pub expand: usize,
    /// Form of the long skips; by default as the authors do: one linear map up to width 512, two above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_skip: Option<LongSkip>,
    /// How many of [`super::ScanDirection::ALL`] the blocks take turns in: 1, 2 or 4.
    #[serde(default = "default_scan_directions", skip_serializing_if = "is_default_scan_directions")]
    pub scan_directions: usize,
    /// Whether a depthwise 3 × 3 convolution comes before and after the blocks.
    #[serde(default = "default_local_convolution", skip_serializing_if = "is_default_local_convolution")]
    pub local_convolution: bool,
    /// How fresh weights are drawn; a network that is loaded does not depend on it.
    #[serde(default, skip_serializing_if = "is_published")]
    pub initialisation: Initialisation,
}

/// Makes a preset's configuration.
type Preset = fn() -> DimConfig;

const fn default_d_state() -> usize {
    16
}

const fn default_d_conv() -> usize {
    3
}

const fn default_expand() -> usize {
    2
}

const fn default_scan_directions() -> usize {
    4
}

const fn default_local_convolution() -> bool {
    true
}

// What serde asks before it leaves a field out: it hands over references.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_default_scan_directions(directions: &usize) -> bool {
    *directions == default_scan_directions()
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_default_local_convolution(convolution: &bool) -> bool {
    *convolution == default_local_convolution()
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_published(initialisation: &Initialisation) -> bool {
    *initialisation == Initialisation::Published
}

impl DimConfig {
    /// DiM-S/2 on 32 × 32 RGB images with 10 classes (CIFAR-10): 50,568,716 parameters.
    #[must_use]
    pub fn dim_s_2() -> Self {
        Self::preset(32, 3, 512, 25, 10, Padding::Lateral)
    }

    /// DiM-L/2 on 32 × 32 latents (256 px ImageNet): 386,063,376 parameters.
    #[must_use]
    pub fn dim_l_2() -> Self {
        Self::preset(32, 4, 1024, 49, 1000, Padding::Lateral)
    }

    /// DiM-H/2 on 32 × 32 latents (256 px ImageNet): 862,407,184 parameters.
    #[must_use]
    pub fn dim_h_2() -> Self {
        Self::preset(32, 4, 1536, 49, 1000, Padding::Lateral)
    }

    /// DiM-H/2 fine-tuned on 64 × 64 latents (512 px ImageNet): 863,586,832 parameters.
    #[must_use]
    pub fn dim_h_2_512() -> Self {
        Self::preset(64, 4, 1536, 49, 1000, Padding::Rho)
    }

    /// A network for tests: 8 × 8 RGB, width 32, 5 blocks, 3 classes.
    #[must_use]
    pub fn tiny() -> Self {
        Self::preset(8, 3, 32, 5, 3, Padding::Lateral)
    }

    /// The preset called `name`, such as `dim_l_2`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::PRESETS.iter().find(|(known, _)| *known == name).map(|(_, preset)| preset())
    }

    /// Every preset by name.
    pub const PRESETS: [(&'static str, Preset); 5] = [
        ("dim_s_2", Self::dim_s_2),
        ("dim_l_2", Self::dim_l_2),
        ("dim_h_2", Self::dim_h_2),
        ("dim_h_2_512", Self::dim_h_2_512),
        ("tiny", Self::tiny),
    ];

    fn preset(
        image_size: usize,
        in_channels: usize,
        d_model: usize,
        depth: usize,
        classes: usize,
        padding: Padding,
    ) -> Self {
        Self {
            image_size,
            in_channels,
            patch_size: 2,
            d_model,
            depth,
            classes,
            padding,
            d_state: default_d_state(),
            d_conv: default_d_conv(),
            expand: default_expand(),
            long_skip: None,
            scan_directions: default_scan_directions(),
            local_convolution: default_local_convolution(),
            initialisation: Initialisation::Published,
        }
    }

    /// Width of the Mamba layers, E.
    #[must_use]
    pub fn d_inner(&self) -> usize {
        self.expand * self.d_model
    }

    /// Rank of the step-size projection, R = ⌈`d_model` / 16⌉.
    #[must_use]
    pub fn dt_rank(&self) -> usize {
        self.d_model.div_ceil(16)
    }

    /// Form of the long skips.
    #[must_use]
    pub fn long_skip(&self) -> LongSkip {
        self.long_skip.unwrap_or(if self.d_model <= WIDEST_ONE_LINEAR {
            LongSkip::OneLinear
        } else {
            LongSkip::TwoLinears
        })
    }

    /// The patch grid that the position table is made for.
    #[must_use]
    pub fn table_grid(&self) -> Grid {
        Grid::square(self.image_size / self.patch_size)
    }

    /// The label that means "no class".
    #[must_use]
    pub fn null_label(&self) -> usize {
        self.classes
    }

    /// Index of the first block that takes a long skip; `depth` where none does.
    #[must_use]
    pub fn first_decoder_block(&self) -> usize {
        match self.long_skip() {
            LongSkip::None => self.depth,
            LongSkip::OneLinear | LongSkip::TwoLinears => self.depth - (self.depth - 1) / 2,
        }
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
            ("d_state", self.d_state),
            ("d_conv", self.d_conv),
            ("expand", self.expand),
        ]);
        checks.multiple("image_size", self.image_size, "patch_size", self.patch_size);
        checks.require(self.d_model.is_multiple_of(2), || {
            format!("`d_model` must be even (half sines, half cosines), got {}", self.d_model)
        });
        checks.require(self.depth >= 3 && !self.depth.is_multiple_of(2), || {
            format!(
                "`depth` must be odd and at least 3 (a middle block between encoder and decoder), got {}",
                self.depth
            )
        });
        checks.require([1, 2, 4].contains(&self.scan_directions), || {
            format!("`scan_directions` must be 1, 2 or 4, got {}", self.scan_directions)
        });
        checks.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_found_by_name() {
        for (name, preset) in DimConfig::PRESETS {
            assert_eq!(preset().check(), Ok(()), "{name}");
            assert_eq!(DimConfig::named(name), Some(preset()));
        }
        assert_eq!(DimConfig::named("dim_xl_2"), None);
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = DimConfig { image_size: 9, depth: 4, d_state: 0, d_model: 33, ..DimConfig::tiny() };
        let error = config.check().expect_err("four problems");
        assert_eq!(error.problems.len(), 4, "{error}");
        assert!(error.to_string().contains("multiple of `patch_size` = 2, got 9"), "{error}");
        let error = DimConfig { scan_directions: 3, ..DimConfig::tiny() }.check().expect_err("no three directions");
        assert_eq!(error.problems, ["`scan_directions` must be 1, 2 or 4, got 3"]);
    }
}
