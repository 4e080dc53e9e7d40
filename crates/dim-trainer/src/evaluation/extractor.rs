//! The network that sees the images, and the file that it was read from.

use std::path::{Path, PathBuf};

use dim_eval::features::{Dinov2, EfficientNetLite, FeatureExtractor, Inception, LiteSize, Preprocessing};
use dim_torch::cuda;
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
    /// Whether a GPU may round what its convolutions read.
    pub tf32: bool,
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
        let source = Source::of(self.features);
        let name = self.features.name();
        let usage = |message: String| Err(TrainerError::Usage(message));
        let path = match (&self.weights, source) {
            (Some(path), _) => path.clone(),
            (None, Source::Installed(size)) => PathBuf::from(size.installed()),
            (None, Source::Named(published)) => {
                return usage(format!("the weights of {name} must be named: {published}"));
            }
        };
        if path.exists() {
            return Ok(path);
        }
        let advice = match source {
            Source::Installed(size) => {
                format!("`{}` installs them, `--weights FILE` names them elsewhere", size.installer())
            }
            Source::Named(_) => "`--weights FILE` names them".to_owned(),
        };
        usage(format!("{}: the weights of {name} are not there; {advice}", path.display()))
    }

    /// Reads the network.
    ///
    /// # Errors
    /// As [`weights`](Self::weights), and for weights of another network.
    pub(crate) fn load(&self, device: Device) -> Result<Extractor, TrainerError> {
        let path = self.weights()?;
        if self.tf32 && device.is_cuda() {
            cuda::allow_tf32_convolutions()?;
        }
        Ok(Extractor { network: self.network(&path, device)?, weights: FileIdentity::of(&path)? })
    }

    fn network(&self, path: &Path, device: Device) -> Result<Box<dyn FeatureExtractor>, TrainerError> {
        let preprocessing = match self.preprocessing {
            PreprocessingName::PytorchFid => Preprocessing::PytorchFid,
            PreprocessingName::Tensorflow => Preprocessing::Tensorflow,
        };
        let lite = |size| EfficientNetLite::load(size, path, device);
        Ok(match self.features {
            FeaturesName::EfficientnetLite0 => Box::new(lite(LiteSize::Lite0)?),
            FeaturesName::EfficientnetLite1 => Box::new(lite(LiteSize::Lite1)?),
            FeaturesName::EfficientnetLite2 => Box::new(lite(LiteSize::Lite2)?),
            FeaturesName::Inception => Box::new(Inception::load(path, preprocessing, device)?),
            FeaturesName::Dinov2 => Box::new(Dinov2::load(path, device)?),
        })
    }
}

/// Where weights come from if no file is named.
#[derive(Clone, Copy)]
enum Source {
    /// Set-up installs them.
    Installed(LiteSize),
    /// They must be named: the argument that names the published ones.
    Named(&'static str),
}

impl Source {
    fn of(features: FeaturesName) -> Self {
        match features {
            FeaturesName::EfficientnetLite0 => Self::Installed(LiteSize::Lite0),
            FeaturesName::EfficientnetLite1 => Self::Installed(LiteSize::Lite1),
            FeaturesName::EfficientnetLite2 => Self::Installed(LiteSize::Lite2),
            FeaturesName::Inception => Self::Named(
                "`--weights pt_inception-2015-12-05-6726825d.pth`, as pytorch-fid downloads it, or the same in safetensors",
            ),
            FeaturesName::Dinov2 => Self::Named(
                "`--weights dinov2_vitl14_pretrain.pth` of the published code, or `model.safetensors` of facebook/dinov2-large",
            ),
        }
    }
}
