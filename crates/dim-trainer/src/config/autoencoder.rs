//! `[autoencoder]`: what turns images into the latents that a network works on, and back.

use std::path::PathBuf;

use dim_model::AutoencoderConfig;
use serde::{Deserialize, Serialize};

/// `[autoencoder]`: the network works on latents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Autoencoder {
    /// A published one, by name; either this or `sizes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<AutoencoderKind>,
    /// Its weights: the authors' file, a checkpoint of Stable Diffusion, diffusers' or one of ours. Absent: they are not at hand,
    /// so that the network draws latents and cannot be shown images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<PathBuf>,
    /// What latents are multiplied by; absent: what the file of weights says, else the published factor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling_factor: Option<f64>,
    /// Images with a side above this, in pixels, go through it tile by tile, which needs less memory.
    #[serde(default = "tile_above")]
    pub tile_above: usize,
    /// The sizes of any other autoencoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<AutoencoderConfig>,
}

/// The autoencoders that a configuration can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoencoderKind {
    /// The KL-regularised autoencoder of latent diffusion (Rombach et al., arXiv 2112.10752): 4 channels, 8 × smaller.
    KlF8,
}

impl Autoencoder {
    /// The sizes that the section names; those of KL-f8 for a section that does not work.
    pub fn sizes(&self) -> AutoencoderConfig {
        let named = match (&self.sizes, self.kind) {
            (Some(sizes), _) => sizes.clone(),
            (None, Some(AutoencoderKind::KlF8) | None) => AutoencoderConfig::kl_f8(),
        };
        AutoencoderConfig { scaling_factor: self.scaling_factor.unwrap_or(named.scaling_factor), ..named }
    }

    /// How many pixels of the image stand side by side in one of the latent.
    pub fn downsampling(&self) -> usize {
        self.sizes().downsampling()
    }

    /// Channels of the latent.
    pub fn latent_channels(&self) -> usize {
        self.sizes().latent_channels
    }

    /// One line a problem.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.kind.is_some() == self.sizes.is_some() {
            let got = if self.kind.is_some() { "both" } else { "neither" };
            problems.push(format!("[autoencoder] must have either `kind` or `sizes`, got {got}"));
        }
        if let Err(error) = self.sizes().validate() {
            problems.extend(error.problems.into_iter().map(|problem| format!("[autoencoder.sizes] {problem}")));
        }
        if self.tile_above == 0 {
            problems.push("`autoencoder.tile_above` must be at least 1, got 0".to_owned());
        }
        problems
    }
}

/// What most cards, and machines with 16 GB, decode at once: KL-f8 needs about 8 GB in f32 at this side.
fn tile_above() -> usize {
    1024
}
