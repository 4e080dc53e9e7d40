//! What both halves of an autoencoder are made of. Source: Esser et al. 2020 (arXiv 2012.09841), appendix A.

use dim_torch::{Parameters, TorchError, ops::conv2d};
use tch::{Kind, Tensor};

use super::{attention::Attention, config::GROUPS, norms::Norms};

/// Added to the variance of a group.
const EPS: f64 = 1e-6;

/// A convolution with a bias that keeps the image's size.
pub(super) struct Convolution {
    weight: Tensor,
    bias: Tensor,
}

impl Convolution {
    pub(super) fn new(parameters: &Parameters, name: &str) -> Result<Self, TorchError> {
        Ok(Self { weight: parameters.get(&format!("{name}.weight"))?, bias: parameters.get(&format!("{name}.bias"))? })
    }

    pub(super) fn forward(&self, x: &Tensor, kind: Kind) -> Result<Tensor, TorchError> {
        let padding = self.weight.size()[3] / 2;
        self.strided(x, 1, padding, kind)
    }

    fn strided(&self, x: &Tensor, stride: i64, padding: i64, kind: Kind) -> Result<Tensor, TorchError> {
        let (weight, bias) = (self.weight.to_kind(kind), self.bias.to_kind(kind));
        conv2d(&x.to_kind(kind), &weight, &bias, stride, padding)
    }

    /// At half the size: a row and a column of zeros at the far ends, then every second pixel.
    pub(super) fn halve(&self, x: &Tensor, kind: Kind) -> Result<Tensor, TorchError> {
        self.strided(&x.f_constant_pad_nd([0, 1, 0, 1])?, 2, 0, kind)
    }

    /// At twice the size: every pixel four times, then the convolution.
    pub(super) fn double(&self, x: &Tensor, kind: Kind) -> Result<Tensor, TorchError> {
        let size = x.size();
        self.forward(&x.f_upsample_nearest2d([2 * size[2], 2 * size[3]], None, None)?, kind)
    }
}

/// A group norm, in f32.
pub(super) struct Norm {
    weight: Tensor,
    bias: Tensor,
}

impl Norm {
    pub(super) fn new(parameters: &Parameters, name: &str) -> Result<Self, TorchError> {
        Ok(Self { weight: parameters.get(&format!("{name}.weight"))?, bias: parameters.get(&format!("{name}.bias"))? })
    }

    pub(super) fn forward(&self, x: &Tensor, norms: &Norms) -> Result<Tensor, TorchError> {
        let x = x.to_kind(Kind::Float);
        let Some(groups) = norms.next(&x)? else {
            return Ok(x.f_group_norm(GROUPS as i64, Some(&self.weight), Some(&self.bias), EPS, true)?);
        };
        // [batch, group] → [batch, channel, 1, 1]
        let of_group = x.size()[1] / GROUPS as i64;
        let of_channels = |numbers: &Tensor| numbers.f_repeat_interleave_self_int(of_group, 1, None);
        let factor = of_channels(&groups.variance.f_add_scalar(EPS)?.f_rsqrt()?)?.f_mul(&self.weight)?;
        let summand = self.bias.f_sub(&of_channels(&groups.mean)?.f_mul(&factor)?)?;
        let spread = |numbers: Tensor| numbers.f_unsqueeze(-1)?.f_unsqueeze(-1);
        Ok(spread(summand)?.f_addcmul(&x, &spread(factor)?)?)
    }

    /// The norm and SiLU.
    pub(super) fn activated(&self, x: &Tensor, norms: &Norms) -> Result<Tensor, TorchError> {
        Ok(self.forward(x, norms)?.f_silu()?)
    }
}

/// Norm, SiLU and convolution, twice, beside a shortcut.
pub(super) struct Residual {
    norm_1: Norm,
    conv_1: Convolution,
    norm_2: Norm,
    conv_2: Convolution,
    shortcut: Option<Convolution>,
}

impl Residual {
    /// `widens`: whether the number of channels changes.
    pub(super) fn new(parameters: &Parameters, name: &str, widens: bool) -> Result<Self, TorchError> {
        let part = |part: &str| format!("{name}.{part}");
        Ok(Self {
            norm_1: Norm::new(parameters, &part("norm1"))?,
            conv_1: Convolution::new(parameters, &part("conv1"))?,
            norm_2: Norm::new(parameters, &part("norm2"))?,
            conv_2: Convolution::new(parameters, &part("conv2"))?,
            shortcut: widens.then(|| Convolution::new(parameters, &part("nin_shortcut"))).transpose()?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, kind: Kind, norms: &Norms) -> Result<Tensor, TorchError> {
        let h = self.conv_1.forward(&self.norm_1.activated(x, norms)?, kind)?;
        let h = self.conv_2.forward(&self.norm_2.activated(&h, norms)?, kind)?;
        match &self.shortcut {
            Some(shortcut) => Ok(shortcut.forward(x, kind)?.f_add(&h)?),
            None => Ok(x.f_add(&h)?),
        }
    }
}

/// The middle of each half: two residual blocks around attention.
pub(super) struct Middle {
    pub(super) block_1: Residual,
    pub(super) attention: Attention,
    pub(super) block_2: Residual,
}

impl Middle {
    pub(super) fn new(parameters: &Parameters, half: &str) -> Result<Self, TorchError> {
        Ok(Self {
            block_1: Residual::new(parameters, &format!("{half}.mid.block_1"), false)?,
            attention: Attention::new(parameters, &format!("{half}.mid.attn_1"))?,
            block_2: Residual::new(parameters, &format!("{half}.mid.block_2"), false)?,
        })
    }
}
