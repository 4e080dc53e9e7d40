//! The Inception network of FID: 2,048 features, the maps that sFID compares, and the scores of the inception score.
//!
//! The weights are those of TensorFlow's release of 2015-12-05, as pytorch-fid (`pt_inception-2015-12-05-6726825d.pth`) and torch-fidelity
//! (`weights-inception-2015-12-05-6726825d.pth`) publish them, or the same in safetensors.

mod layout;
mod resize;
mod unit;

use std::path::Path;

use dim_model::verify::fill_from_names;
use dim_model::weights::{self, WeightFile};
use dim_torch::{ParameterSpec, Parameters, TorchError};
use tch::{Device, Kind, Tensor};

use self::unit::{Block, channels_last};
use super::{FeatureExtractor, Input, Seen, refuse_other_channels};
use crate::EvalError;

pub use self::resize::Preprocessing;

/// Batches that a batch norm has seen while it was trained; means nothing afterwards.
const BATCHES: &str = "num_batches_tracked";
/// The module whose first channels sFID compares; they come out of its first branch, TensorFlow's `mixed_6/conv`.
const SPATIAL_MODULE: &str = "Mixed_6d";
/// How many of them.
const SPATIAL_CHANNELS: i64 = 7;
/// Rows, and columns, of that map.
const SPATIAL_SIDE: i64 = 17;

/// The network, frozen, in f32.
pub struct Inception {
    blocks: Vec<Block>,
    /// Weight and bias, where the file has them.
    classifier: Option<(Tensor, Tensor)>,
    preprocessing: Preprocessing,
    device: Device,
}

impl Inception {
    /// Reads weights under pytorch-fid's names: of the network itself or of the wrapper around it, which has no classifier.
    ///
    /// # Errors
    /// A file that cannot be read, or every missing, unexpected and wrongly shaped key at once.
    pub fn load(path: impl AsRef<Path>, preprocessing: Preprocessing, device: Device) -> Result<Self, EvalError> {
        let mut tensors = WeightFile::open(path)?.read_all()?;
        tensors.retain(|(name, _)| !name.ends_with(BATCHES));
        for (name, _) in &mut tensors {
            *name = layout::of_wrapper(name).unwrap_or_else(|| name.clone());
        }
        let mut specs = layout::specs();
        let has_classifier = tensors.iter().any(|(name, _)| name.starts_with("fc."));
        if !has_classifier {
            specs.truncate(specs.len() - layout::classifier().len());
        }
        let parameters = Parameters::frozen(&specs, Device::Cpu)?;
        weights::assign(&parameters, &tensors)?;
        Self::new(&parameters, preprocessing, device)
    }

    /// The network with weights computed from their names: for comparison with other implementations, which fill it by the same rule. Its
    /// features mean nothing.
    ///
    /// # Errors
    /// No memory.
    pub fn procedural(seed: u64, preprocessing: Preprocessing, device: Device) -> Result<Self, EvalError> {
        Self::new(&Self::procedural_parameters(seed)?, preprocessing, device)
    }

    /// The weights of [`procedural`](Self::procedural), to be written to a file.
    ///
    /// # Errors
    /// No memory.
    pub fn procedural_parameters(seed: u64) -> Result<Parameters, EvalError> {
        let specs = layout::specs();
        let parameters = Parameters::frozen(&specs, Device::Cpu)?;
        fill_from_names(&parameters, seed)?;
        Ok(parameters)
    }

    fn new(parameters: &Parameters, preprocessing: Preprocessing, device: Device) -> Result<Self, EvalError> {
        let block = |block: &layout::Block| Block::new(parameters, block, device);
        let place = |name: &str| Ok::<_, TorchError>(parameters.get(name)?.detach().f_to_device(device)?);
        let classifier = match parameters.get("fc.weight") {
            Ok(_) => Some((place("fc.weight")?, place("fc.bias")?)),
            Err(_) => None,
        };
        let blocks = layout::blocks().iter().map(block).collect::<Result<_, TorchError>>()?;
        Ok(Self { blocks, classifier, preprocessing, device })
    }

    /// Number of its parameters; means and variances of batch norms are none.
    #[must_use]
    pub fn parameters() -> i64 {
        layout::specs().iter().filter(|spec| !spec.name.contains("running_")).map(ParameterSpec::elements).sum()
    }

    /// Where it computes.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// What pytorch-fid makes of images in [0, 1], `[image, 3, row, column]`: 299 × 299 pixels in [-1, 1].
    ///
    /// # Errors
    /// No memory.
    pub(crate) fn resized(images: &Tensor) -> Result<Tensor, EvalError> {
        Preprocessing::resized_to_unit(images)
    }

    /// The last map of images as the network reads them; `look` sees the output of each module, and of the pools between them, by name.
    pub(crate) fn evaluate(&self, x: &Tensor, look: &mut dyn FnMut(&str, &Tensor)) -> Result<Tensor, EvalError> {
        let mut x = if self.device == Device::Cpu { channels_last(x)? } else { x.shallow_clone() };
        for block in &self.blocks {
            x = block.forward(&x)?;
            look(block.name, &x);
        }
        Ok(x)
    }

    /// Scores of the 1,008 classes before the softmax, `[image, class]`, with the bias or, as TensorFlow's inception score has it, without.
    ///
    /// # Errors
    /// [`EvalError::Argument`] if the weights came without a classifier, as those of pytorch-fid's wrapper do.
    pub fn logits(&self, features: &Tensor, with_bias: bool) -> Result<Tensor, EvalError> {
        match &self.classifier {
            Some((weight, bias)) => Ok(features.f_linear(weight, with_bias.then_some(bias))?),
            None => Err(EvalError::Argument {
                argument: "the weights of inception",
                expected: "with a classifier, `fc.weight` and `fc.bias`, for the inception score".to_owned(),
                got: "weights without".to_owned(),
            }),
        }
    }
}

impl FeatureExtractor for Inception {
    fn name(&self) -> &'static str {
        "inception"
    }

    fn input(&self) -> Input {
        Input::AnySize
    }

    fn preprocessing(&self) -> &'static str {
        self.preprocessing.name()
    }

    fn dimension(&self) -> usize {
        layout::FEATURES as usize
    }

    fn spatial_dimension(&self) -> Option<usize> {
        Some((SPATIAL_CHANNELS * SPATIAL_SIDE * SPATIAL_SIDE) as usize)
    }

    fn classes(&self) -> Option<usize> {
        self.classifier.as_ref().map(|_| layout::CLASSES as usize)
    }

    fn prepare(&self, pixels: &Tensor) -> Result<Tensor, EvalError> {
        refuse_other_channels(pixels)?;
        self.preprocessing.apply(pixels)
    }

    fn see(&self, prepared: &Tensor) -> Result<Seen, EvalError> {
        let mut spatial = None;
        let mut look = |name: &str, map: &Tensor| {
            if name == SPATIAL_MODULE {
                // Rows, columns, channels: the order of TensorFlow, in which ADM's statistics are.
                let first = map.f_narrow(1, 0, SPATIAL_CHANNELS).and_then(|map| map.f_permute([0, 2, 3, 1]));
                spatial = Some(first.and_then(|map| map.f_flatten(1, -1)));
            }
        };
        let map = self.evaluate(prepared, &mut look)?;
        let features = map.f_mean_dim(&[2_i64, 3][..], false, Kind::Float)?;
        let logits = self.classifier.as_ref().map(|_| self.logits(&features, false)).transpose()?;
        Ok(Seen { features, spatial: spatial.transpose()?, logits })
    }
}
