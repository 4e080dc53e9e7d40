//! Training an autoencoder, the first stage of a latent diffusion model: Rombach et al. 2021 (arXiv 2112.10752), appendix G, without the
//! adversarial part.
//!
//! For each image, with errors averaged over its pixels' values: `(|x − x̂| + w·perceptual) / e^s + s + k·KL / (values of the image)`, where
//! `s` is learned. That is the published sum over pixels, divided by the number of values.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use dim_data::{ImageSource, Loader, LoaderConfig, Order, Pixels, Source};
use dim_diffusion::noise::NoiseStream;
use dim_eval::Perceptual;
use dim_eval::features::{EfficientNetLite, LiteSize};
use dim_model::weights::{self, Naming, WeightFile};
use dim_model::{Autoencoder, AutoencoderConfig, Precision};
use dim_torch::{ParameterSpec, Parameters};
use tch::{Device, Kind, Tensor};

use super::checkpoint::DataSummary;
use super::session::DeviceBatch;
use super::task::Task;
use super::team::GradientSum;
use crate::config::{AutoencoderRun, Reconstruction, ReconstructionNorm, RunConfig};
use crate::error::TrainerError;
use crate::first_stage::SIZES;
use crate::grid::{Picture, grid};

/// The learned logarithm of the errors' variance. Readers of autoencoders pass over `loss.*`, and it is not saved for use.
const LOG_VARIANCE: &str = "loss.logvar";
/// Images whose latents decide about the scaling factor.
const MEASURED_IMAGES: usize = 512;
/// Images that go through the network at once where nothing is trained.
const AT_ONCE: usize = 16;

/// An autoencoder and its loss.
pub struct AutoencoderTask {
    loss: Reconstruction,
    perceptual: Option<Perceptual>,
    micro_batch_size: usize,
    seed: u64,
    images: Arc<dyn ImageSource>,
    /// The same, as the loader takes them.
    source: Arc<dyn Source>,
    image_size: usize,
    /// The images that are shown, in [-1, 1], on the CPU.
    shown: Tensor,
}

impl AutoencoderTask {
    /// The images and the loss that a configuration describes, on `device`, and the first images of the run's order to be shown.
    ///
    /// # Errors
    /// [`TrainerError::Usage`] if the perceptual network's weights are not there; [`TrainerError::Eval`], [`TrainerError::Data`].
    pub fn open(config: &AutoencoderRun, device: Device) -> Result<Self, TrainerError> {
        let images = dim_data::open(&config.data, config.image_size)?;
        for note in images.notes() {
            eprintln!("note: {note}");
        }
        let perceptual = match config.loss.perceptual_weight > 0.0 {
            true => Some(perceptual(&config.loss.perceptual_network, device)?),
            false => None,
        };
        let count = config.pictures.rows * config.pictures.columns;
        let shown = Tensor::f_cat(&first_images(&images, config, count)?, 0)?.f_narrow(0, 0, count as i64)?;
        Ok(Self {
            loss: config.loss.clone(),
            perceptual,
            micro_batch_size: config.train.micro_batch_size.unwrap_or(config.train.batch_size),
            seed: config.train.seed,
            source: Arc::new(Pixels(Arc::clone(&images))),
            images,
            image_size: config.image_size,
            shown,
        })
    }

    /// The loss of some images, of which the first is number `first` of the run: 0-dim.
    fn loss(&self, network: &Autoencoder, images: &Tensor, first: u64) -> Result<Tensor, TrainerError> {
        let moments = network.encode(images)?;
        let shape = moments.mean.size();
        let numbers: Vec<u64> = (first..first + shape[0].unsigned_abs()).collect();
        let noise = NoiseStream::new(self.seed, "latents").normal(&numbers, &shape[1..], images.device())?;
        let decoded = network.decode(&moments.sample(&noise)?)?;
        let apart = decoded.f_sub(images)?;
        let apart = match self.loss.norm {
            ReconstructionNorm::L1 => apart.f_abs()?,
            ReconstructionNorm::L2 => apart.f_square()?,
        };
        let mut error = apart.f_mean_dim(&[1_i64, 2, 3][..], false, Kind::Float)?;
        if let Some(perceptual) = &self.perceptual {
            let seen = perceptual.distance(&decoded, images)?;
            error = error.f_add(&seen.f_mul_scalar(self.loss.perceptual_weight)?)?;
        }
        if self.loss.learned_variance {
            let log_variance = network.parameters().get(LOG_VARIANCE)?;
            error = error.f_div(&log_variance.f_exp()?)?.f_add(&log_variance)?;
        }
        let values = images.size()[1..].iter().product::<i64>() as f64;
        let divergence = moments.divergence()?.f_mul_scalar(self.loss.kl_weight / values)?;
        Ok(error.f_add(&divergence)?.f_mean(Kind::Float)?)
    }

    /// One over the standard deviation of latents of the data's first images, drawn as a latent diffusion model draws them.
    fn scaling_factor(&self, network: &Autoencoder, config: &AutoencoderRun) -> Result<f64, TrainerError> {
        let _no_grad = tch::no_grad_guard();
        let device = network.parameters().device();
        let count = MEASURED_IMAGES.min(self.images.len());
        let stream = NoiseStream::new(self.seed, "measured latents");
        let (mut values, mut sum, mut squares) = (0.0, 0.0, 0.0);
        let mut first = 0;
        for batch in first_images(&self.images, config, count)? {
            let moments = network.encode(&batch.f_to_device(device)?)?;
            let shape = moments.mean.size();
            let numbers: Vec<u64> = (first..first + shape[0].unsigned_abs()).collect();
            first += shape[0].unsigned_abs();
            let latents = moments.sample(&stream.normal(&numbers, &shape[1..], device)?)?.f_to_kind(Kind::Double)?;
            values += latents.numel() as f64;
            sum += latents.f_sum(Kind::Double)?.double_value(&[]);
            squares += latents.f_square()?.f_sum(Kind::Double)?.double_value(&[]);
        }
        let variance = squares / values - (sum / values).powi(2);
        let factor = variance.sqrt().recip();
        if factor.is_finite() && factor > 0.0 {
            return Ok(factor);
        }
        Err(TrainerError::Unsupported(format!(
            "the autoencoder's latents have a variance of {variance}; no factor makes noise of them"
        )))
    }
}

/// The sizes that are trained: latents are not scaled before their spread is known.
fn sizes(config: &AutoencoderRun) -> AutoencoderConfig {
    AutoencoderConfig { scaling_factor: 1.0, ..config.autoencoder.clone() }
}

impl Task for AutoencoderTask {
    type Config = AutoencoderRun;
    type Network = Autoencoder;

    fn specs(config: &AutoencoderRun) -> Vec<ParameterSpec> {
        let mut specs = config.autoencoder.parameter_specs();
        specs.push(ParameterSpec::new(LOG_VARIANCE, &[1]));
        specs
    }

    fn build(
        config: &AutoencoderRun,
        parameters: Parameters,
        precision: Precision,
    ) -> Result<Autoencoder, TrainerError> {
        Ok(Autoencoder::new(sizes(config), parameters)?.with_precision(precision))
    }

    fn parameters(network: &Autoencoder) -> &Parameters {
        network.parameters()
    }

    fn initialise(network: &Autoencoder, seed: u64) -> Result<(), TrainerError> {
        Ok(network.initialise(seed)?)
    }

    fn start_from(network: &Autoencoder, path: &Path, config: &AutoencoderRun) -> Result<(), TrainerError> {
        let mut tensors = weights::load_file(WeightFile::open(path)?, config.autoencoder.name_table())?;
        tensors.push((LOG_VARIANCE.to_owned(), Tensor::f_zeros([1], (Kind::Float, Device::Cpu))?));
        Ok(weights::assign(network.parameters(), &tensors)?)
    }

    fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    fn loaded_size(&self) -> usize {
        self.image_size
    }

    fn gradients(
        &self,
        network: &Autoencoder,
        batch: &DeviceBatch,
        sum: &GradientSum<'_>,
    ) -> Result<Tensor, TrainerError> {
        sum.add(batch.images.size()[0], self.micro_batch_size, |start, piece| {
            self.loss(network, &batch.images.f_narrow(0, start, piece)?, batch.first + start as u64)
        })
    }

    /// Rows of originals, each above a row of what comes of their likeliest latents.
    fn picture(
        &self,
        average: &Autoencoder,
        config: &AutoencoderRun,
        _data: &DataSummary,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Picture, TrainerError> {
        let _no_grad = tch::no_grad_guard();
        let device = average.parameters().device();
        let (rows, columns) = (config.pictures.rows, config.pictures.columns as i64);
        let mut all = Vec::new();
        for row in 0..rows {
            let originals = self.shown.f_narrow(0, row as i64 * columns, columns)?;
            let mut decoded = Vec::new();
            for piece in originals.f_split(AT_ONCE as i64, 0)? {
                let latents = average.encode(&piece.f_to_device(device)?)?.mode()?;
                decoded.push(average.decode(&latents)?.f_to_device(Device::Cpu)?);
            }
            all.push(originals);
            all.append(&mut decoded);
            if progress(row + 1, rows).is_break() {
                break;
            }
        }
        grid(&Tensor::f_cat(&all, 0)?, config.pictures.columns)
    }

    /// The autoencoder alone, with its sizes and the measured scaling factor in the metadata, where `[autoencoder]` finds them.
    fn save_snapshot(
        &self,
        path: &Path,
        (average, images_seen): (&Autoencoder, u64),
        config: &AutoencoderRun,
        _data: &DataSummary,
    ) -> Result<(), TrainerError> {
        let scaling_factor = self.scaling_factor(average, config)?;
        let sizes = AutoencoderConfig { scaling_factor, ..config.autoencoder.clone() };
        let about = BTreeMap::from([
            (SIZES.to_owned(), serde_json::json!(sizes).to_string()),
            ("autoencoder_run".to_owned(), config.to_toml()?),
            ("images_seen".to_owned(), images_seen.to_string()),
            ("weights".to_owned(), "ema".to_owned()),
        ]);
        let own = average.parameters().iter().filter(|(spec, _)| spec.name != LOG_VARIANCE);
        let tensors = own.map(|(spec, tensor)| (spec.name.clone(), tensor.detach()));
        Ok(weights::save(path, tensors, Naming::Ours, &about)?)
    }
}

fn perceptual(path: &Path, device: Device) -> Result<Perceptual, TrainerError> {
    if !path.exists() {
        return Err(TrainerError::Usage(format!(
            "{}: the weights for the perceptual loss are not there; `cargo xtask setup` installs them, `loss.perceptual_network` names them \
             elsewhere, and `loss.perceptual_weight = 0` does without",
            path.display()
        )));
    }
    Ok(Perceptual::new(EfficientNetLite::load(LiteSize::Lite0, path, device)?))
}

/// The first `count` images of the run's order or some more, unmirrored, in [-1, 1], in batches on the CPU.
fn first_images(
    source: &Arc<dyn ImageSource>,
    config: &AutoencoderRun,
    count: usize,
) -> Result<Vec<Tensor>, TrainerError> {
    let order = Order::new(config.train.seed, source.len())?;
    let batch_size = AT_ONCE.min(count);
    let settings = LoaderConfig {
        batch_size,
        size: config.image_size,
        max_broken_files: config.train.max_broken_files,
        ..LoaderConfig::default()
    };
    let loader = Loader::new(Arc::clone(source), order, settings)?;
    loader
        .take(count.div_ceil(batch_size))
        .map(|batch| {
            let batch = batch?;
            let shape = [batch.len(), batch.channels, batch.size, batch.size].map(|size| size as i64);
            Ok(Tensor::f_from_slice(&batch.images)?.f_view(shape)?)
        })
        .collect()
}
