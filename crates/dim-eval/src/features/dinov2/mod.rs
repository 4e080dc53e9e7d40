//! DINOv2 (Oquab et al. 2023, arXiv 2304.07193): a vision transformer trained without labels, whose class token behind the last norm is the
//! feature of FD-DINOv2 (Stein et al. 2023, arXiv 2306.04675).
//!
//! The weights are those of the published code (`dinov2_vitl14_pretrain.pth`), or of `facebook/dinov2-large` in safetensors; the sizes
//! ViT-S/14, B/14, L/14 and g/14 are told by the tensors. The networks with registers are others and are refused.
//!
//! Positions were learnt on 37 × 37 patches. For 16 × 16 they are resized as the published code does it, and so FD-DINOv2 is: bicubically, by
//! the factor 16.1 / 37 (its guard against rounding), not 16 / 37, which transformers uses and which moves the features.

mod block;
mod layout;
mod names;

use std::path::Path;

use dim_model::verify::fill_from_names;
use dim_model::weights::{self, WeightFile};
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor};

use self::block::{Block, Norm, place};
use super::{FeatureExtractor, Input, Seen, refuse_other_channels, refuse_other_sizes};
use crate::EvalError;

pub use self::layout::{Dinov2Layout, FeedForward};

/// Side in pixels of the images that FD-DINOv2 shows it.
const INPUT_SIZE: usize = 224;
/// Mean and deviation of ImageNet's pixels by channel, in [0, 1].
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];
/// What the published code adds to the number of patches before it divides: the factor decides where positions are taken from.
const OFFSET: f64 = 0.1;

/// The network, frozen, in f32.
pub struct Dinov2 {
    layout: Dinov2Layout,
    projection: (Tensor, Tensor),
    class_token: Tensor,
    /// As learnt, `[1, 1 + patches, channel]`.
    positions: Tensor,
    blocks: Vec<Block>,
    norm: Norm,
}

impl Dinov2 {
    /// Reads weights under the published names or those of transformers.
    ///
    /// # Errors
    /// A file that cannot be read or is of another network, or every missing, unexpected and wrongly shaped key at once.
    pub fn load(path: impl AsRef<Path>, device: Device) -> Result<Self, EvalError> {
        Self::from_tensors(WeightFile::open(path)?.read_all()?, device)
    }

    fn from_tensors(tensors: Vec<(String, Tensor)>, device: Device) -> Result<Self, EvalError> {
        let tensors = names::published(tensors)?;
        let layout = Dinov2Layout::of(&tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.size())).collect())?;
        let parameters = Parameters::frozen(&layout.specs(), Device::Cpu)?;
        weights::assign(&parameters, &tensors)?;
        Self::from_parameters(&parameters, layout, device)
    }

    /// The network of these sizes with weights computed from their names: for comparison with other implementations, which fill it by the same
    /// rule. Its features mean nothing.
    ///
    /// # Errors
    /// No memory.
    pub fn procedural(layout: Dinov2Layout, seed: u64, device: Device) -> Result<Self, EvalError> {
        Self::from_parameters(&Self::procedural_parameters(layout, seed)?, layout, device)
    }

    /// The weights of [`procedural`](Self::procedural), under the published names.
    ///
    /// # Errors
    /// No memory.
    pub fn procedural_parameters(layout: Dinov2Layout, seed: u64) -> Result<Parameters, EvalError> {
        let parameters = Parameters::frozen(&layout.specs(), Device::Cpu)?;
        fill_from_names(&parameters, seed)?;
        Ok(parameters)
    }

    pub(crate) fn from_parameters(
        parameters: &Parameters,
        layout: Dinov2Layout,
        device: Device,
    ) -> Result<Self, EvalError> {
        let place = |name: &str| place(parameters, name, device);
        let block = |number| Block::new(parameters, &layout, number, device);
        Ok(Self {
            layout,
            projection: (place("patch_embed.proj.weight")?, place("patch_embed.proj.bias")?),
            class_token: place("cls_token")?,
            positions: place("pos_embed")?,
            blocks: (0..layout.depth).map(block).collect::<Result<_, _>>()?,
            norm: Norm::new(parameters, "norm", device)?,
        })
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> Device {
        self.class_token.device()
    }

    /// Positions of the class token and of `rows` × `columns` patches, `[1, 1 + patches, channel]`.
    pub(crate) fn positions(&self, rows: i64, columns: i64) -> Result<Tensor, EvalError> {
        let (side, width) = (self.layout.learnt_side, self.layout.width);
        if [rows, columns] == [side, side] {
            return Ok(self.positions.shallow_clone());
        }
        let learnt = self.positions.f_narrow(1, 1, side * side)?.f_reshape([1, side, side, width])?;
        let factor = |patches: i64| Some((patches as f64 + OFFSET) / side as f64);
        let resized = learnt.f_permute([0, 3, 1, 2])?.f_upsample_bicubic2d(
            [rows, columns],
            false,
            factor(rows),
            factor(columns),
        )?;
        let resized = resized.f_permute([0, 2, 3, 1])?.f_reshape([1, rows * columns, width])?;
        Ok(Tensor::f_cat(&[self.positions.f_narrow(1, 0, 1)?, resized], 1)?)
    }

    /// The class token `[image, channel]` behind the last norm, of images as the network reads them, whose sides are multiples of its patch;
    /// `look` sees all tokens before the first block and behind each.
    pub(crate) fn evaluate(&self, x: &Tensor, look: &mut dyn FnMut(&str, &Tensor)) -> Result<Tensor, EvalError> {
        let map =
            x.f_conv2d(&self.projection.0, Some(&self.projection.1), [self.layout.patch; 2], [0, 0], [1, 1], 1)?;
        let (images, rows, columns) = (map.size()[0], map.size()[2], map.size()[3]);
        let patches = map.f_flatten(2, 3)?.f_transpose(1, 2)?;
        let class = self.class_token.f_expand([images, -1, -1], false)?;
        let mut x = Tensor::f_cat(&[class, patches], 1)?.f_add(&self.positions(rows, columns)?)?;
        look("tokens", &x);
        for (number, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x)?;
            look(&format!("block.{number}"), &x);
        }
        // The norm is of each token by itself.
        Ok(self.norm.forward(&x.f_select(1, 0)?)?)
    }
}

impl FeatureExtractor for Dinov2 {
    fn name(&self) -> &'static str {
        self.layout.name()
    }

    fn input(&self) -> Input {
        Input::Resized(INPUT_SIZE)
    }

    fn preprocessing(&self) -> &'static str {
        "bicubic of Pillow, antialiased"
    }

    fn dimension(&self) -> usize {
        self.layout.width as usize
    }

    fn prepare(&self, pixels: &Tensor) -> Result<Tensor, EvalError> {
        refuse_other_channels(pixels)?;
        refuse_other_sizes(pixels, INPUT_SIZE)?;
        normalised_as_imagenet(pixels)
    }

    fn see(&self, prepared: &Tensor) -> Result<Seen, EvalError> {
        Ok(Seen { features: self.evaluate(prepared, &mut |_, _| ())?, spatial: None, logits: None })
    }
}

/// Pixels from 0 to 255, `[image, 3, row, column]`, as networks trained on ImageNet read them, f32.
pub(crate) fn normalised_as_imagenet(pixels: &Tensor) -> Result<Tensor, EvalError> {
    let by_channel =
        |values: [f32; 3]| Tensor::f_from_slice(&values)?.f_view([1, 3, 1, 1])?.f_to_device(pixels.device());
    let unit = pixels.f_to_kind(Kind::Float)?.f_div_scalar(255.0)?;
    Ok(unit.f_sub(&by_channel(MEAN)?)?.f_div(&by_channel(DEVIATION)?)?)
}

#[cfg(test)]
mod tests;
