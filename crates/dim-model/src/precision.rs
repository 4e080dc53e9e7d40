//! In what a network computes.

use dim_torch::Parameters;
use tch::Kind;

/// In what the wide products are computed; norms, states, modulation and the residual stream are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Everything in f32.
    F32,
    /// Products, convolutions and scan inputs in bf16.
    Bf16,
    /// As [`Precision::Bf16`], but convolution and scan compute in f32 between the same roundings: the plain low-precision
    /// evaluation that [`crate::verify`] measures the kernels of bf16 by. Runs on every device.
    Bf16Plain,
}

impl Precision {
    /// What products are computed in: `f32` or `bf16`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 | Self::Bf16Plain => "bf16",
        }
    }

    /// The parameters as a network of this precision is built on them: in bf16 with a copy of all weights, made once for each
    /// time they are written.
    pub(crate) fn prepare(self, parameters: Parameters) -> Parameters {
        if self == Self::Bf16 { parameters.with_bf16_copy() } else { parameters }
    }

    /// Of the wide products and of what lies between them and the kernels.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 | Self::Bf16Plain => Kind::BFloat16,
        }
    }

    /// Of what the kernels of convolution and scan read and write.
    pub(crate) fn kernel_kind(self) -> Kind {
        match self {
            Self::F32 | Self::Bf16Plain => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
        }
    }
}
