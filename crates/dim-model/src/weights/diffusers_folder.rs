//! A folder of diffusers' `AutoencoderKL`: `config.json` beside `diffusion_pytorch_model.safetensors`.
//!
//! Source: the published repositories of such autoencoders (`stabilityai/sd-vae-ft-ema` and its kin); the keys of `config.json` are
//! the arguments of the class. A pipeline's folder, which has the autoencoder in `vae/`, is understood, too.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::json;

use super::WeightsError;
use crate::{AutoencoderConfig, autoencoder::GROUPS};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
/// Other names of the weights: of files before safetensors, and of those in half precision.
const OTHER_WEIGHTS: [&str; 2] = ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors"];
/// Where a pipeline has its autoencoder.
const IN_PIPELINE: &str = "vae";

/// What diffusers multiplies latents by if the configuration does not say, as in the older files of Stable Diffusion.
const SCALING_FACTOR: f64 = 0.18215;

const PLAIN: [&str; 2] = ["DownEncoderBlock2D", "UpDecoderBlock2D"];
const ATTENDING: [&str; 2] = ["AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D"];

/// The autoencoder in such a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct DiffusersFolder {
    /// Its sizes.
    pub sizes: AutoencoderConfig,
    /// Its file of weights.
    pub weights: PathBuf,
}

/// The keys that matter here; there are more.
#[derive(Deserialize)]
struct Config {
    #[serde(rename = "_class_name")]
    class_name: Option<String>,
    in_channels: usize,
    out_channels: usize,
    latent_channels: usize,
    block_out_channels: Vec<usize>,
    layers_per_block: usize,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    norm_num_groups: Option<usize>,
    act_fn: Option<String>,
    scaling_factor: Option<f64>,
    shift_factor: Option<f64>,
    use_quant_conv: Option<bool>,
    use_post_quant_conv: Option<bool>,
    mid_block_add_attention: Option<bool>,
}

impl DiffusersFolder {
    /// Whether a folder has a configuration as diffusers writes it.
    #[must_use]
    pub fn is_one(path: &Path) -> bool {
        path.join(CONFIG).is_file() || path.join(IN_PIPELINE).join(CONFIG).is_file()
    }

    /// Reads the configuration of the folder and finds its weights, which are not opened.
    ///
    /// # Errors
    /// [`WeightsError::Io`]; [`WeightsError::DiffusersFolder`] with every key that this crate's autoencoder cannot follow.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let inner = path.join(IN_PIPELINE);
        let path = if !path.join(CONFIG).exists() && inner.join(CONFIG).exists() { &inner } else { path };
        let config = path.join(CONFIG);
        let text = fs::read_to_string(&config).map_err(|source| WeightsError::Io {
            action: "read",
            path: config.clone(),
            source,
        })?;
        let wrong = |problem| WeightsError::DiffusersFolder { path: config.clone(), problem };
        let parsed: Config = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("expected the configuration of diffusers' AutoencoderKL ({error})")))?;
        let sizes = parsed.sizes().map_err(|problems| wrong(problems.join("; ")))?;
        let candidates = || std::iter::once(WEIGHTS).chain(OTHER_WEIGHTS);
        let weights = candidates().map(|name| path.join(name)).find(|file| file.is_file());
        let weights = weights.ok_or_else(|| WeightsError::DiffusersFolder {
            path: path.to_owned(),
            problem: format!(
                "expected one of {} beside {CONFIG}, found none",
                candidates().collect::<Vec<_>>().join(", ")
            ),
        })?;
        Ok(Self { sizes, weights })
    }

    /// Where the weights of such a folder are written.
    #[must_use]
    pub fn weights_in(path: &Path) -> PathBuf {
        path.join(WEIGHTS)
    }

    /// Where its configuration is written, and the configuration: JSON that diffusers reads.
    #[must_use]
    pub fn config_in(path: &Path, sizes: &AutoencoderConfig) -> (PathBuf, String) {
        let levels = sizes.channel_mult.len();
        let attends = |level: usize| usize::from(sizes.attention_downsampling.contains(&(1 << level)));
        let kinds = |half: usize| [PLAIN[half], ATTENDING[half]];
        let down: Vec<&str> = (0..levels).map(|level| kinds(0)[attends(level)]).collect();
        let up: Vec<&str> = (0..levels).rev().map(|level| kinds(1)[attends(level)]).collect();
        let config = json!({
            "_class_name": "AutoencoderKL",
            "act_fn": "silu",
            "block_out_channels": sizes.channel_mult.iter().map(|factor| factor * sizes.channels).collect::<Vec<_>>(),
            "down_block_types": down,
            "in_channels": sizes.in_channels,
            "latent_channels": sizes.latent_channels,
            "layers_per_block": sizes.num_res_blocks,
            "norm_num_groups": GROUPS,
            "out_channels": sizes.in_channels,
            "sample_size": 256,
            "scaling_factor": sizes.scaling_factor,
            "up_block_types": up,
        });
        (path.join(CONFIG), format!("{config:#}\n"))
    }
}

impl Config {
    /// The sizes, or every problem, one line each.
    fn sizes(&self) -> Result<AutoencoderConfig, Vec<String>> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, problem: String| {
            if !holds {
                problems.push(problem);
            }
        };
        let class = self.class_name.as_deref().unwrap_or("none");
        require(class == "AutoencoderKL", format!("`_class_name` must be AutoencoderKL, got {class}"));
        let (input, output) = (self.in_channels, self.out_channels);
        require(input == output, format!("`out_channels` must be `in_channels` = {input}, got {output}"));
        let groups = self.norm_num_groups.unwrap_or(GROUPS);
        require(groups == GROUPS, format!("`norm_num_groups` must be {GROUPS}, got {groups}"));
        let activation = self.act_fn.as_deref().unwrap_or("silu");
        require(activation == "silu", format!("`act_fn` must be silu, got {activation}"));
        let shift = self.shift_factor.unwrap_or(0.0);
        require(shift == 0.0, format!("`shift_factor` must be absent or 0, got {shift}"));
        for (name, value) in [
            ("use_quant_conv", self.use_quant_conv),
            ("use_post_quant_conv", self.use_post_quant_conv),
            ("mid_block_add_attention", self.mid_block_add_attention),
        ] {
            require(value.unwrap_or(true), format!("`{name}` must be true, got false"));
        }
        let channels = self.block_out_channels.first().copied().unwrap_or(0).max(1);
        let whole = self.block_out_channels.iter().all(|width| width.is_multiple_of(channels));
        require(
            whole,
            format!("`block_out_channels` must be multiples of the first, got {:?}", self.block_out_channels),
        );
        let attends = |types: &[String], half: usize| -> Vec<Option<bool>> {
            let kind = |name: &String| match name.as_str() {
                name if name == PLAIN[half] => Some(false),
                name if name == ATTENDING[half] => Some(true),
                _ => None,
            };
            types.iter().map(kind).collect()
        };
        let (down, mut up) = (attends(&self.down_block_types, 0), attends(&self.up_block_types, 1));
        up.reverse();
        let known = down.len() == self.block_out_channels.len() && !down.contains(&None) && down == up;
        require(
            known,
            format!(
                "`down_block_types` must list {} or {} for every entry of `block_out_channels`, and `up_block_types` their mirror \
                 image, got {:?} and {:?}",
                PLAIN[0], ATTENDING[0], self.down_block_types, self.up_block_types
            ),
        );
        let sizes = AutoencoderConfig {
            in_channels: input,
            latent_channels: self.latent_channels,
            channels,
            channel_mult: self.block_out_channels.iter().map(|width| width / channels).collect(),
            num_res_blocks: self.layers_per_block,
            attention_downsampling: (0..down.len())
                .filter(|&level| down[level] == Some(true))
                .map(|level| 1 << level)
                .collect(),
            scaling_factor: self.scaling_factor.unwrap_or(SCALING_FACTOR),
        };
        if let Err(error) = sizes.validate() {
            problems.extend(error.problems);
        }
        if problems.is_empty() { Ok(sizes) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// `config.json` of Stable Diffusion 1's autoencoder, as diffusers 0.2 wrote it, and of newer ones.
    const PUBLISHED: &str = r#"{
  "_class_name": "AutoencoderKL", "_diffusers_version": "0.4.2", "act_fn": "silu",
  "block_out_channels": [128, 256, 512, 512],
  "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
  "in_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32, "out_channels": 3,
  "sample_size": 256,
  "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]
}"#;

    fn folder(config: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CONFIG), config).unwrap();
        fs::write(folder.path().join(WEIGHTS), "").unwrap();
        folder
    }

    #[test]
    fn the_published_configuration_is_kl_f8() {
        let folder = folder(PUBLISHED);
        assert!(DiffusersFolder::is_one(folder.path()));
        let found = DiffusersFolder::open(folder.path()).unwrap();
        let weights = folder.path().join(WEIGHTS);
        assert_eq!(found, DiffusersFolder { sizes: AutoencoderConfig::kl_f8(), weights });
    }

    #[test]
    fn what_is_written_is_read_back_also_within_a_pipeline() {
        let sizes = AutoencoderConfig {
            channel_mult: vec![1, 2, 1],
            attention_downsampling: vec![2],
            scaling_factor: 0.3,
            ..AutoencoderConfig::tiny()
        };
        let pipeline = tempfile::tempdir().unwrap();
        let inner = pipeline.path().join("vae");
        fs::create_dir(&inner).unwrap();
        let (path, text) = DiffusersFolder::config_in(&inner, &sizes);
        fs::write(path, text).unwrap();
        fs::write(inner.join(OTHER_WEIGHTS[0]), "").unwrap();
        let found = DiffusersFolder::open(pipeline.path()).unwrap();
        assert_eq!(found, DiffusersFolder { sizes, weights: inner.join(OTHER_WEIGHTS[0]) });
    }

    #[test]
    fn what_this_autoencoder_is_not_is_told_at_once() {
        let other = PUBLISHED
            .replace("\"silu\"", "\"relu\"")
            .replace("\"norm_num_groups\": 32", "\"shift_factor\": 0.1, \"use_quant_conv\": false");
        let error = DiffusersFolder::open(folder(&other).path()).unwrap_err().to_string();
        for needle in ["config.json", "`act_fn` must be silu", "`shift_factor`", "`use_quant_conv` must be true"] {
            assert!(error.contains(needle), "{error}");
        }
        let error = DiffusersFolder::open(folder("{}").path()).unwrap_err().to_string();
        assert!(error.contains("AutoencoderKL") && error.contains("in_channels"), "{error}");
        let empty = folder(PUBLISHED);
        fs::remove_file(empty.path().join(WEIGHTS)).unwrap();
        let error = DiffusersFolder::open(empty.path()).unwrap_err().to_string();
        assert!(error.contains(WEIGHTS) && error.contains("found none"), "{error}");
    }
}
