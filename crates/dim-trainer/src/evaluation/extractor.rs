//! The network that sees the images, and the file that it was read from.

use std::path::{Path, PathBuf};

use dim_eval::features::{Dinov2, EfficientNetLite0, FeatureExtractor, Inception, Preprocessing};
use tch::Device;

use crate::cli::{FeaturesName, PreprocessingName};
use crate::error::TrainerError;
use crate::provenance::FileIdentity;

/// Which network, with which weights.
#[derive(Clone, Debug)]
pub(crate) struct ExtractorChoice {
    pub features: FeaturesName,
    /// By default where `cargo xtask setup` puts them, if it does.
    pub weights: Option<PathBuf>,
    pub preprocessing: PreprocessingName,
}

/// A network with its weights.
pub(crate) struct Extractor {
    pub network: Box<dyn FeatureExtractor>,
    /// The file of its weights.
    pub weights: FileIdentity,
}

impl ExtractorChoice {
    /// Where the weights are, which is checked.
    ///
    /// # Errors
    /// [`TrainerError::Usage`] if they are not there, or must be named.
    pub(crate) fn weights(&self) -> Result<PathBuf, TrainerError> {
        let path = match (&self.weights, self.features) {
            (Some(path), _) => path.clone(),
            (None, FeaturesName::EfficientnetLite0) => PathBuf::from(EfficientNetLite0::INSTALLED),
            (None, features) => {
                let published = match features {
                    FeaturesName::Dinov2 => {
                        "`--weights dinov2_vitl14_pretrain.pth` of the published code, or `model.safetensors` of facebook/dinov2-large"
                    }
                    _ => {
                        "`--weights pt_inception-2015-12-05-6726825d.pth`, as pytorch-fid downloads it, or the same in safetensors"
                    }
                };
                let name = features.name();
                return Err(TrainerError::Usage(format!("the weights of {name} must be named: {published}")));
            }
        };
        if path.exists() {
            return Ok(path);
        }
        let advice = match self.features {
            FeaturesName::EfficientnetLite0 => {
                "`cargo xtask setup` installs them, `--weights FILE` names them elsewhere"
            }
            FeaturesName::Inception | FeaturesName::Dinov2 => "`--weights FILE` names them",
        };
        let name = self.features.name();
        Err(TrainerError::Usage(format!("{}: the weights of {name} are not there; {advice}", path.display())))
    }

    /// Reads the network.
    ///
    /// # Errors
    /// As [`weights`](Self::weights), and for weights of another network.
    pub(crate) fn load(&self, device: Device) -> Result<Extractor, TrainerError> {
        let path = self.weights()?;
        Ok(Extractor { network: self.network(&path, device)?, weights: FileIdentity::of(&path)? })
    }

    fn network(&self, path: &Path, device: Device) -> Result<Box<dyn FeatureExtractor>, TrainerError> {
        let preprocessing = match self.preprocessing {
            PreprocessingName::PytorchFid => Preprocessing::PytorchFid,
            PreprocessingName::Tensorflow => Preprocessing::Tensorflow,
        };
        Ok(match self.features {
            FeaturesName::EfficientnetLite0 => Box::new(EfficientNetLite0::load(path, device)?),
            FeaturesName::Inception => Box::new(Inception::load(path, preprocessing, device)?),
            FeaturesName::Dinov2 => Box::new(Dinov2::load(path, device)?),
        })
    }
}
