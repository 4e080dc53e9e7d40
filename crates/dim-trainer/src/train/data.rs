//! The data of a run, and what a batch of them becomes on the device: the network's input.
//!
//! | `[data]` | `[autoencoder]` | the loader gives | the network sees |
//! | --- | --- | --- | --- |
//! | images | absent | pixels | the pixels |
//! | images | with `weights` | pixels | a latent drawn from what the encoder makes of them |
//! | latents | present | moments | a latent drawn from the moments |

use std::sync::Arc;

use dim_data::latents::{Encoding, Latents};
use dim_data::sources::Features;
use dim_data::{DataConfig, Source};
use dim_diffusion::noise::NoiseStream;
use dim_model::{AutoencoderConfig, BackboneConfig, Moments, Precision};
use tch::{Device, Tensor};

use crate::config::{Autoencoder, Config};
use crate::error::TrainerError;
use crate::first_stage::FirstStage;

/// Name of the stream of noise that latents are drawn with.
const POSTERIOR: &str = "posterior";

/// An open source and the way from its batches to the network.
pub(super) struct Data {
    source: Arc<dyn Source>,
    /// Side of what the loader gives: pixels, or places of a latent.
    size: usize,
    steps: Steps,
    /// Makes latents of images, and pictures of samples; absent for networks on pixels, and where its weights are not at hand.
    first_stage: Option<FirstStage>,
    noise: NoiseStream,
}

/// What is done to a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Steps {
    None,
    /// Encode, and draw.
    Encode,
    /// Draw, and multiply by the factor.
    Draw {
        scaling_factor: f64,
    },
}

impl Data {
    /// Opens what `[data]` names, and the autoencoder where it is needed, and checks that they and the network go together.
    ///
    /// # Errors
    /// [`TrainerError::Data`]; [`TrainerError::ConfigValues`] with everything that does not fit; [`TrainerError::OtherAutoencoder`];
    /// [`TrainerError::Weights`].
    pub(super) fn open(config: &Config, device: Device, precision: Precision) -> Result<Self, TrainerError> {
        let load = |section: &Autoencoder| {
            section.weights.as_ref().map(|path| FirstStage::load(path, section, device, precision)).transpose()
        };
        let mut problems = Vec::new();
        let (source, size, steps, first_stage): (Arc<dyn Source>, _, _, _) = match (&config.data, &config.autoencoder) {
            (DataConfig::Latents(data), Some(section)) => {
                let latents = Latents::open(data)?;
                let encoding = &latents.index().encoding;
                check_sizes(&data.path.display().to_string(), encoding.latent_size, config, &mut problems);
                let scaling_factor = section.scaling_factor.unwrap_or(encoding.scaling_factor);
                let first_stage = load(section)?;
                check_encoding(encoding, section, first_stage.as_ref(), scaling_factor, &mut problems)?;
                let size = encoding.latent_size;
                (Arc::new(latents), size, Steps::Draw { scaling_factor }, first_stage)
            }
            (DataConfig::Features(data), Some(section)) => {
                let features = Features::open(data)?;
                let size = features.latent_size();
                check_sizes(&data.path.display().to_string(), size, config, &mut problems);
                let first_stage = load(section)?;
                let of_file = first_stage.as_ref().map(|stage| stage.sizes().scaling_factor);
                let scaling_factor = of_file.unwrap_or(section.sizes().scaling_factor);
                (Arc::new(features), size, Steps::Draw { scaling_factor }, first_stage)
            }
            (images, Some(section)) => {
                let first_stage = load(section)?.ok_or_else(|| without_weights(config))?;
                let size = config.data_size();
                (dim_data::open_any(images, size)?, size, Steps::Encode, Some(first_stage))
            }
            (images, None) => {
                let size = config.model.image_size();
                (dim_data::open_any(images, size)?, size, Steps::None, None)
            }
        };
        let expected = match steps {
            Steps::None => config.model.in_channels(),
            Steps::Encode => config.autoencoder.as_ref().map_or(0, |section| section.sizes().in_channels),
            Steps::Draw { .. } => 2 * config.model.in_channels(),
        };
        if source.channels() != expected {
            problems.push(format!(
                "the data have {} channels, `model.in_channels` and [autoencoder] ask for {expected}",
                source.channels()
            ));
        }
        let (found, known) = (source.classes().len(), config.model.classes());
        if found > known && !config.unconditional() {
            problems.push(format!(
                "`model.classes` must be at least {found}, the number of classes of the data, got {known}"
            ));
        }
        if config.train.random_flip && !source.can_mirror() {
            problems.push("`train.random_flip` must be false for latents without mirror images, got true".to_owned());
        }
        if !problems.is_empty() {
            return Err(TrainerError::ConfigValues { origin: "with these data".to_owned(), problems });
        }
        for note in source.notes() {
            eprintln!("note: {note}");
        }
        if steps != Steps::None && first_stage.is_none() && config.sample.every_images.is_some() {
            eprintln!(
                "note: no pictures while training, for the network draws latents and `autoencoder.weights` is absent"
            );
        }
        let noise = NoiseStream::new(config.train.seed, POSTERIOR);
        Ok(Self { source, size, steps, first_stage, noise })
    }

    /// Where examples come from.
    pub(super) fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// Side of what the loader is to give.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The network's input, `[image, channel, row, column]`, of a `batch` on the device; it is the batch that begins after
    /// `images_seen` images, and the noise of image `i` follows from the seed and `images_seen + i` alone.
    ///
    /// # Errors
    /// [`TrainerError::Model`], [`TrainerError::Diffusion`]: out of memory mostly.
    pub(super) fn inputs(&self, batch: Tensor, images_seen: u64) -> Result<Tensor, TrainerError> {
        let moments = match (self.steps, &self.first_stage) {
            (Steps::Draw { scaling_factor }, _) => Moments::new(&batch, scaling_factor)?,
            (Steps::Encode, Some(first_stage)) => first_stage.encode(&batch)?,
            _ => return Ok(batch),
        };
        let size = moments.mean.size();
        let indices: Vec<u64> = (images_seen..).take(size[0] as usize).collect();
        let noise = self.noise.normal(&indices, &size[1..], batch.device())?;
        Ok(moments.sample(&noise)?)
    }

    /// Whether samples can be shown.
    pub(super) fn has_pictures(&self) -> bool {
        self.steps == Steps::None || self.first_stage.is_some()
    }

    /// Samples as images.
    ///
    /// # Errors
    /// [`TrainerError::Model`]: out of memory mostly.
    pub(super) fn pictures(&self, samples: Tensor) -> Result<Tensor, TrainerError> {
        self.first_stage.as_ref().map_or(Ok(samples.shallow_clone()), |first_stage| first_stage.decode(&samples))
    }
}

/// Latents of `found` x `found` places must be what the network was built for.
fn check_sizes(path: &str, found: usize, config: &Config, problems: &mut Vec<String>) {
    let expected = config.model.image_size();
    if found != expected {
        problems.push(format!("`model.image_size` must be {found}, the side of the latents in {path}, got {expected}"));
    }
}

/// The latents must be those of the autoencoder that the configuration names.
fn check_encoding(
    encoding: &Encoding,
    section: &Autoencoder,
    first_stage: Option<&FirstStage>,
    scaling_factor: f64,
    problems: &mut Vec<String>,
) -> Result<(), TrainerError> {
    let theirs = encoding.autoencoder.get("sizes").cloned().unwrap_or_default();
    let same = serde_json::from_value::<AutoencoderConfig>(theirs.clone())
        .is_ok_and(|theirs| AutoencoderConfig { scaling_factor: theirs.scaling_factor, ..section.sizes() } == theirs);
    if !same {
        let ours = serde_json::json!(section.sizes());
        problems.push(format!("[autoencoder] describes {ours}, the latents were made by {theirs}"));
    }
    let Some(first_stage) = first_stage else { return Ok(()) };
    let decoder = first_stage.sizes().scaling_factor;
    if decoder != scaling_factor {
        problems.push(format!(
            "`autoencoder.scaling_factor` must say which counts: {scaling_factor} of the latents, or {decoder} of `autoencoder.weights`"
        ));
    }
    if encoding.autoencoder.get("weights_crc32c").and_then(|crc| crc.as_str()) != Some(&first_stage.fingerprint()?) {
        eprintln!(
            "note: the latents were made with other weights than those of `autoencoder.weights`, which draw the pictures"
        );
    }
    Ok(())
}

fn without_weights(config: &Config) -> TrainerError {
    let (size, data) = (config.model.image_size(), config.data_size());
    let problem = format!(
        "`autoencoder.weights` is missing: this network learns {size} x {size} latents of {data} x {data} images, so they must be encoded \
         at every step; or encode them once with `dim-trainer encode` and set data.source = \"latents\""
    );
    TrainerError::ConfigValues { origin: "with these data".to_owned(), problems: vec![problem] }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use dim_data::latents::{Element, LatentFolder, LatentsConfig};
    use tch::Kind;

    use super::*;

    /// A finished encoding of four images, two channels on 2 x 2 places, all of variance 4; `section` gets its factor.
    fn data(folder: &tempfile::TempDir, seed: u64, scaling_factor: f64) -> Data {
        let (format, version) = Encoding::format();
        let encoding = Encoding {
            format,
            version,
            data: serde_json::Value::Null,
            images: 4,
            classes: vec!["a".into()],
            image_size: 4,
            autoencoder: serde_json::Value::Null,
            scaling_factor,
            latent_channels: 2,
            latent_size: 2,
            element: Element::F32,
            mirrored: false,
            images_per_shard: 4,
        };
        let mut latents = LatentFolder::open(folder.path(), encoding).unwrap();
        if !latents.is_finished() {
            let mut shard = latents.begin(0);
            for image in 0..4 {
                let mut moments = [image as f32; 16];
                moments[8..].fill(4_f32.ln());
                shard.push(0, &[&moments]).unwrap();
            }
            latents.save(&shard).unwrap();
            latents.finish().unwrap();
        }
        let source = Latents::open(&LatentsConfig { path: folder.path().to_owned() }).unwrap();
        Data {
            source: Arc::new(source),
            size: 2,
            steps: Steps::Draw { scaling_factor },
            first_stage: None,
            noise: NoiseStream::new(seed, POSTERIOR),
        }
    }

    /// Moments of `count` images as the loader gives them.
    fn batch(data: &Data, count: usize) -> Tensor {
        let mut values = vec![0.0; count * 16];
        for (index, out) in values.chunks_mut(16).enumerate() {
            data.source.write(index % 4, 2, false, out).unwrap();
        }
        Tensor::from_slice(&values).view([count as i64, 4, 2, 2])
    }

    #[test]
    fn latents_follow_from_the_seed_and_the_images_seen_and_are_scaled_once() {
        let folder = tempfile::tempdir().unwrap();
        let one = data(&folder, 1, 0.5);
        let moments = batch(&one, 4);
        let drawn = one.inputs(moments.shallow_clone(), 10).unwrap();
        // 0.5 · (mean + 2 · noise), with the noise of images 10 to 13 of this seed's stream.
        let noise = NoiseStream::new(1, POSTERIOR).normal(&[10, 11, 12, 13], &[2, 2, 2], Device::Cpu).unwrap();
        let expected = (moments.narrow(1, 0, 2) + noise * 2.0) * 0.5;
        assert!((&drawn - expected).abs().max().double_value(&[]) < 1e-6);

        // The same images at the same moment of the run, cut into other batches, as after a resume.
        let later = one.inputs(moments.narrow(0, 1, 3), 11).unwrap();
        assert!(later.equal(&drawn.narrow(0, 1, 3)));
        for (seed, seen) in [(2, 10), (1, 11)] {
            assert!(!data(&folder, seed, 0.5).inputs(moments.shallow_clone(), seen).unwrap().equal(&drawn));
        }
    }

    #[test]
    fn latents_have_the_moments_that_are_stored() {
        let folder = tempfile::tempdir().unwrap();
        let one = data(&folder, 3, 1.0);
        let drawn = one.inputs(batch(&one, 4000), 0).unwrap();
        let centred = drawn - Tensor::arange(4000, (Kind::Float, Device::Cpu)).remainder(4.0).view([-1, 1, 1, 1]);
        let (mean, std) = (centred.mean(Kind::Float).double_value(&[]), centred.std(true).double_value(&[]));
        // 32,000 numbers of deviation 2: their mean varies by 0.011, their deviation by 0.008.
        assert!(mean.abs() < 0.05 && (std - 2.0).abs() < 0.04, "{mean} {std}");
    }
}
