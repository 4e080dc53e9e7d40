//! From an image to a token a patch, and back. Source: Dosovitskiy et al. 2020 (arXiv 2010.11929), section 3.1.

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use crate::grid::Grid;

/// A linear map of the pixels of each patch.
pub(crate) struct PatchEmbed {
    weight: Tensor,
    bias: Tensor,
}

impl PatchEmbed {
    /// The map whose parameters are `name.weight`, `[d_model, channel, patch row, patch column]`, and `name.bias`.
    pub(crate) fn new(parameters: &Parameters, name: &str) -> Result<Self, TorchError> {
        let parameter = |part: &str| parameters.get(&format!("{name}.{part}"));
        Ok(Self { weight: parameter("weight")?, bias: parameter("bias")? })
    }

    /// `[batch, channel, row, column]` → `[batch, patch, d_model]`, f32; patches row by row.
    ///
    /// The patch convolution as a matrix product whose first input is 1 and whose first weight is the bias: it sums the
    /// bias, then the pixels by row, column and channel, on every processor. The published results were summed in this
    /// order; another one moves an embedding by a rounding, which nine blocks of DiM amplify a hundredfold.
    pub(crate) fn forward(&self, x: &Tensor, grid: Grid) -> Result<Tensor, TorchError> {
        let (rows, columns) = grid.sizes();
        let (channels, patch) = (self.weight.size()[1], self.weight.size()[2]);
        let pixels = x
            .to_kind(Kind::Float)
            .f_reshape([-1, channels, rows, patch, columns, patch])?
            .f_permute([0, 2, 4, 3, 5, 1])?
            .f_reshape([-1, rows * columns, patch * patch * channels])?;
        let ones = pixels.f_narrow(2, 0, 1)?.f_ones_like()?;
        let weight = self.weight.f_permute([0, 2, 3, 1])?.f_flatten(1, -1)?;
        let weight = Tensor::f_cat(&[self.bias.f_unsqueeze(1)?, weight], 1)?;
        Ok(Tensor::f_cat(&[ones, pixels], 2)?.f_linear(&weight, None::<&Tensor>)?)
    }
}

/// `[batch, patch, patch row · patch column · channel]` → `[batch, channel, row, column]`.
pub(crate) fn unpatchify(output: &Tensor, grid: Grid, patch_size: usize) -> Result<Tensor, TorchError> {
    let (rows, columns) = grid.sizes();
    let patch = i64::try_from(patch_size).unwrap_or(i64::MAX);
    let image = output.f_unflatten(1, [rows, columns])?.f_unflatten(3, [patch, patch, -1])?;
    let channels = image.size()[5];
    Ok(image.f_permute([0, 5, 1, 3, 2, 4])?.f_reshape([-1, channels, rows * patch, columns * patch])?)
}
