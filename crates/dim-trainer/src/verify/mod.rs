//! Comparison with files of tensors that the published implementation computed: which file is compared how.
//!
//! Every key of a file ends up in exactly one of three places: compared, read as an input, or not covered and told so.

mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dim_eval::features::{EfficientNetLite, LiteSize};
use dim_eval::verify::VerifyError;
use dim_model::verify::{self as model, File, Setting};
use dim_model::weights::WeightFile;
use tch::Tensor;

use crate::error::TrainerError;

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Key of the tensor in the file.
    pub tensor: String,
    /// The largest error, absolute or relative as the tolerance is meant.
    pub error: f64,
    /// The largest error that a correct implementation makes.
    pub tolerance: f64,
}

impl Check {
    /// Error over tolerance: above 1 is a failure.
    pub fn ratio(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.tolerance }
    }

    /// Whether the error is within the tolerance; one that is no number is not.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// How a file is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A small network: weights, intermediates, output, loss, gradients.
    Network,
    /// A network of full size with procedural weights.
    FullSize,
    /// A small DiT or U-ViT.
    Transformer,
    /// A small autoencoder.
    Autoencoder,
    /// The autoencoder of full size with procedural weights.
    FullAutoencoder,
    /// A small U-Net.
    Unet,
    /// A DiT or U-ViT of full size with procedural weights.
    FullTransformer,
    /// Schedules, noising, solvers, guidance, skip weights.
    Schedule,
    /// Cases of the selective scan.
    Scan,
    /// Moments of samples and Fréchet distances.
    Frechet,
    /// EfficientNet-Lite0, whose weights are elsewhere.
    Features,
    /// A larger EfficientNet-Lite with procedural weights, and with its trained ones where they are installed.
    LargerFeatures(LiteSize),
    /// The Inception network of FID with procedural weights.
    Inception,
    /// A small DINOv2.
    Dinov2,
    /// DINOv2 ViT-L/14 with procedural weights.
    FullDinov2,
    /// Every metric of two sets of features.
    Metrics,
}

impl Kind {
    /// How the file of this name is compared; `None` if it is not.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.strip_suffix(".safetensors")?;
        match name {
            "selective_scan" => Some(Self::Scan),
            "schedule" => Some(Self::Schedule),
            "fid" => Some(Self::Frechet),
            "efficientnet_lite0" => Some(Self::Features),
            "efficientnet_lite1" => Some(Self::LargerFeatures(LiteSize::Lite1)),
            "efficientnet_lite2" => Some(Self::LargerFeatures(LiteSize::Lite2)),
            "full_inception" => Some(Self::Inception),
            "full_dinov2" => Some(Self::FullDinov2),
            _ if name.starts_with("dinov2_") => Some(Self::Dinov2),
            "metrics" => Some(Self::Metrics),
            "full_S" | "full_L256" | "full_H256" | "full_H512" => Some(Self::FullSize),
            "full_dit_xl" | "full_uvit_h" => Some(Self::FullTransformer),
            _ if name.starts_with("dim_") => Some(Self::Network),
            "full_vae" => Some(Self::FullAutoencoder),
            _ if name.starts_with("vae_") => Some(Self::Autoencoder),
            _ if name.starts_with("unet_") => Some(Self::Unet),
            _ if name.starts_with("dit_") || name.starts_with("uvit_") => Some(Self::Transformer),
            _ => None,
        }
    }
}

impl Kind {
    /// Whether the comparison takes minutes and gigabytes.
    pub fn is_full_size(self) -> bool {
        matches!(self, Self::FullSize | Self::FullTransformer | Self::FullAutoencoder | Self::FullDinov2)
    }
}

/// The comparisons of one file.
#[derive(Debug)]
pub struct Report {
    /// What was compared.
    pub checks: Vec<Check>,
    /// Keys that were neither compared nor read.
    pub not_covered: Vec<String>,
}

/// Compares one file. Networks and scan are evaluated as `setting` says, schedules and distances on the CPU in f64 and f32, features in
/// f32 with the weights at `efficientnet_lite0`.
///
/// # Errors
/// A file that cannot be read, or lacks what its kind must have.
pub fn verify_file(
    path: &Path,
    kind: Kind,
    setting: Setting,
    efficientnet_lite0: &Path,
) -> Result<Report, TrainerError> {
    let file = WeightFile::open(path)?;
    let metadata = file.metadata().clone();
    let tensors = file.read_all()?;
    let keys: Vec<String> = tensors.iter().map(|(key, _)| key.clone()).collect();
    let (checks, inputs) = match kind {
        Kind::Scan => scan::verify(&tensors.into_iter().collect(), &metadata, setting)?,
        Kind::Schedule => schedule(tensors, metadata)?,
        Kind::Frechet => of_network(dim_eval::verify::frechet(&File::new(tensors, metadata)).map_err(of_eval)?),
        Kind::Features => {
            let network = EfficientNetLite::load(LiteSize::Lite0, efficientnet_lite0, setting.device)?;
            of_network(dim_eval::verify::efficientnet_lite0(&File::new(tensors, metadata), &network).map_err(of_eval)?)
        }
        Kind::LargerFeatures(size) => {
            let (device, installed) = (setting.device, Path::new(size.installed()));
            let load = || EfficientNetLite::load(size, installed, device);
            let trained = installed.exists().then(load).transpose()?;
            let file = File::new(tensors, metadata);
            of_network(dim_eval::verify::efficientnet_lite(&file, size, trained.as_ref(), device).map_err(of_eval)?)
        }
        Kind::Inception => {
            of_network(dim_eval::verify::inception(&File::new(tensors, metadata), setting.device).map_err(of_eval)?)
        }
        Kind::Dinov2 | Kind::FullDinov2 => {
            of_network(dim_eval::verify::dinov2(&File::new(tensors, metadata), setting.device).map_err(of_eval)?)
        }
        Kind::Metrics => {
            of_network(dim_eval::verify::metrics(&File::new(tensors, metadata), setting.device).map_err(of_eval)?)
        }
        Kind::Network => of_network(model::network(&File::new(tensors, metadata), setting)?),
        Kind::FullSize => of_network(model::full_size(&File::new(tensors, metadata), setting)?),
        Kind::Autoencoder | Kind::FullAutoencoder => {
            of_network(model::autoencoder(&File::new(tensors, metadata), setting)?)
        }
        Kind::Unet => of_network(model::unet(&File::new(tensors, metadata), setting)?),
        Kind::Transformer | Kind::FullTransformer => {
            of_network(model::transformer(&File::new(tensors, metadata), setting)?)
        }
    };
    let seen: BTreeSet<&str> =
        checks.iter().map(|check| check.tensor.as_str()).chain(inputs.iter().map(String::as_str)).collect();
    let not_covered = keys.into_iter().filter(|key| !seen.contains(key.as_str())).collect();
    Ok(Report { checks, not_covered })
}

/// Comparisons, and the keys that were read as inputs.
type Compared = (Vec<Check>, Vec<String>);

fn of_eval(error: VerifyError) -> TrainerError {
    match error {
        VerifyError::File(error) => error.into(),
        VerifyError::Eval(error) => error.into(),
    }
}

fn of_network(report: model::Report) -> Compared {
    let check = |check: model::Check| Check { tensor: check.tensor, error: check.error, tolerance: check.tolerance };
    (report.checks.into_iter().map(check).collect(), report.inputs)
}

fn schedule(tensors: Vec<(String, Tensor)>, metadata: BTreeMap<String, String>) -> Result<Compared, TrainerError> {
    let check = |check: dim_diffusion::verify::Check| Check {
        tensor: check.tensor,
        error: check.error,
        tolerance: check.tolerance,
    };
    let mut checks: Vec<Check> = dim_diffusion::verify::schedule_file(&tensors)?.into_iter().map(check).collect();
    let mut inputs: Vec<String> = tensors
        .iter()
        .map(|(key, _)| key.clone())
        .filter(|key| dim_diffusion::verify::is_schedule_input(key))
        .collect();
    let (skips, skip_inputs) = of_network(model::skip_weights(&File::new(tensors, metadata))?);
    checks.extend(skips);
    inputs.extend(skip_inputs);
    Ok((checks, inputs))
}
