//! `dim-trainer encode`: images to latents on disk, once, in one sitting or several.

use std::path::Path;
use std::sync::Arc;

use dim_data::latents::{self, Element, Encoding, Index, LatentFolder, Shard};
use dim_data::sources::{FolderConfig, WebDatasetConfig};
use dim_data::{DataConfig, ImageSource, Pass, PassBatch, PassConfig};
use dim_model::BackboneConfig;
use dim_model::weights::WeightFile;
use tch::{Device, Kind, Tensor};

use super::together::Together;
use crate::cli::{EncodeArgs, StoredAs, VerifyPrecision};
use crate::config::{Autoencoder, AutoencoderKind, Config, Distributed, Precision};
use crate::error::TrainerError;
use crate::first_stage::{self, FirstStage};
use crate::format::{bytes, counted, duration, thousands};
use crate::progress::Progress;

/// What a shard may take, unless the command line says otherwise.
const SHARD_BYTES: usize = 256 << 20;
/// Where the default of `tile_above` is that of the configuration.
const TILE_ABOVE: usize = 1024;

pub(super) fn run(arguments: EncodeArgs) -> Result<u8, TrainerError> {
    if arguments.check {
        return check(&arguments.out);
    }
    let job = Job::find(&arguments)?;
    let together = Together::start("encode", &arguments, (arguments.compute, job.threads), &job.distributed)?;
    let compute = together.compute;
    let asked = match arguments.precision {
        VerifyPrecision::F32 => Precision::F32,
        VerifyPrecision::Bf16 => Precision::Bf16,
    };
    let first_stage = FirstStage::load(&job.weights, &job.section, compute.device, compute.precision(asked)?)?;
    let source = dim_data::open(&job.data, job.image_size)?;
    let encoding = encoding(&arguments, &job, &first_stage, &*source)?;
    let mut folder = together.leader_first(|| Ok(LatentFolder::open(&arguments.out, encoding)?))?;
    let finished = folder.is_finished();
    together.wait()?; // the index may not be written yet when another looks for it
    if together.leads() {
        source.notes().iter().for_each(|note| eprintln!("note: {note}"));
        say_what_is_left(&folder, &arguments, &job, &together);
    }
    if !finished {
        encode(&mut folder, source, &first_stage, &arguments, &together)?;
        together.wait()?; // the files of all are there
        if together.leads() {
            say_what_was_made(&folder.finish()?, &arguments.out);
        }
    }
    together.leave()?;
    Ok(0)
}

fn say_what_is_left(folder: &LatentFolder, arguments: &EncodeArgs, job: &Job, together: &Together) {
    if folder.is_finished() {
        println!("{} is finished already", arguments.out.display());
        return;
    }
    let missing: usize = folder.missing().map(|shard| folder.encoding().images_of(shard).len()).sum();
    let all = folder.encoding().images;
    if missing < all {
        eprintln!("going on: {} of {} are encoded already", thousands((all - missing) as u64), counted(all, "image"));
    }
    eprintln!(
        "{} of {} x {} pixels, on {}; into {}",
        counted(missing, "image"),
        job.image_size,
        job.image_size,
        together.describe(),
        arguments.out.display()
    );
}

fn say_what_was_made(index: &Index, out: &Path) {
    println!(
        "{}: {} in {}, {}; channels' means {} and deviations {}, networks see them times {}",
        out.display(),
        counted(index.images, "image"),
        counted(index.shards.len(), "file"),
        bytes(index.shards.iter().map(|shard| shard.bytes).sum()),
        listed(&index.statistics.mean),
        listed(&index.statistics.std),
        index.encoding.scaling_factor
    );
}

/// What to encode, and with what.
struct Job {
    data: DataConfig,
    section: Autoencoder,
    weights: std::path::PathBuf,
    image_size: usize,
    threads: Option<usize>,
    /// How long processes wait for each other.
    distributed: Distributed,
}

impl Job {
    fn find(arguments: &EncodeArgs) -> Result<Self, TrainerError> {
        let usage = |message: &str| TrainerError::Usage(message.to_owned());
        let config = arguments.config.as_ref().map(|path| Config::load(path, &arguments.set)).transpose()?;
        let data = match (&arguments.data, &config) {
            (Some(path), _) => data_at(path),
            (None, Some(config)) => config.data.clone(),
            (None, None) => return Err(usage("expected `--config FILE` or `--data DIR`")),
        };
        if data.is_latents() {
            return Err(usage(
                "[data] of the configuration names latents, which are encoded already; name the images with `--data DIR`",
            ));
        }
        let of_config = config.as_ref().and_then(|config| config.autoencoder.clone());
        if config.is_some() && of_config.is_none() {
            return Err(usage("the configuration has no section [autoencoder]: its network works on pixels"));
        }
        let weights = arguments.autoencoder.clone().or(of_config.as_ref().and_then(|section| section.weights.clone()));
        let weights = weights.ok_or_else(|| {
            usage("name the autoencoder's weights with `--autoencoder FILE` or as `autoencoder.weights` in the configuration")
        })?;
        let section = match of_config {
            Some(section) => section,
            None => section_of(&weights)?,
        };
        let image_size = arguments.image_size.map(|size| size as usize).or(config.as_ref().map(Config::data_size));
        let image_size = image_size.ok_or_else(|| usage("say how large the images are with `--image-size PIXELS`"))?;
        let rate = section.downsampling();
        if !image_size.is_multiple_of(rate) {
            return Err(TrainerError::Usage(format!(
                "--image-size {image_size}: expected a multiple of {rate}, the factor of the autoencoder"
            )));
        }
        if let Some(config) = config.as_ref().filter(|config| config.data_size() != image_size) {
            eprintln!(
                "note: the configuration's network learns latents of {0} x {0}, these will be of {1} x {1}",
                config.model.image_size(),
                image_size / rate
            );
        }
        let (threads, distributed) =
            config.map(|config| (config.train.threads, config.train.distributed)).unwrap_or_default();
        Ok(Self { data, section, weights, image_size, threads, distributed })
    }
}

/// A tar file or a folder of them, else a folder of class folders.
fn data_at(path: &Path) -> DataConfig {
    let is_tar = |path: &Path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tar"));
    let holds_tars = || {
        let entries = std::fs::read_dir(path).ok();
        entries.is_some_and(|entries| entries.flatten().any(|entry| is_tar(&entry.path())))
    };
    if is_tar(path) || holds_tars() {
        DataConfig::WebDataset(WebDatasetConfig { path: path.to_owned(), json_key: None, class_names: None })
    } else {
        DataConfig::Folder(FolderConfig { path: path.to_owned() })
    }
}

/// The autoencoder of a file of weights: what it says of itself, else KL-f8.
fn section_of(weights: &Path) -> Result<Autoencoder, TrainerError> {
    let sizes = first_stage::sizes_of(&WeightFile::open(weights)?)?;
    let kind = sizes.is_none().then_some(AutoencoderKind::KlF8);
    Ok(Autoencoder { kind, weights: None, scaling_factor: None, tile_above: TILE_ABOVE, sizes })
}

fn encoding(
    arguments: &EncodeArgs,
    job: &Job,
    first_stage: &FirstStage,
    source: &dyn ImageSource,
) -> Result<Encoding, TrainerError> {
    let sizes = first_stage.sizes();
    if source.channels() != sizes.in_channels {
        return Err(TrainerError::Usage(format!(
            "the images have {}, the autoencoder takes {}",
            counted(source.channels(), "channel"),
            sizes.in_channels
        )));
    }
    let (format, version) = Encoding::format();
    let precision = match arguments.precision {
        VerifyPrecision::F32 => "f32",
        VerifyPrecision::Bf16 => "bf16",
    };
    let mut encoding = Encoding {
        format,
        version,
        data: serde_json::json!(job.data),
        images: source.len(),
        classes: source.classes().to_vec(),
        image_size: job.image_size,
        autoencoder: serde_json::json!({
            "sizes": sizes,
            "weights_crc32c": first_stage.fingerprint()?,
            "precision": precision,
            "tile_above": job.section.tile_above,
        }),
        scaling_factor: sizes.scaling_factor,
        latent_channels: sizes.latent_channels,
        latent_size: job.image_size / sizes.downsampling(),
        element: match arguments.store {
            StoredAs::F32 => Element::F32,
            StoredAs::F16 => Element::F16,
            StoredAs::Bf16 => Element::Bf16,
        },
        mirrored: !arguments.no_mirror,
        images_per_shard: 1,
    };
    let of_image = encoding.record_bytes() * encoding.records_per_image();
    let fitting = (SHARD_BYTES / of_image.max(1)).max(1);
    encoding.images_per_shard = arguments.images_per_shard.map_or(fitting, |images| images as usize);
    Ok(encoding)
}

/// Encodes this process's share of the shards that are missing.
fn encode(
    folder: &mut LatentFolder,
    source: Arc<dyn ImageSource>,
    first_stage: &FirstStage,
    arguments: &EncodeArgs,
    together: &Together,
) -> Result<(), TrainerError> {
    let missing = together.share(folder.missing());
    let ranges: Vec<_> = missing.iter().map(|&shard| folder.encoding().images_of(shard)).collect();
    let all: usize = ranges.iter().map(|range| range.len()).sum();
    let (mut progress, mut done) = (Progress::shown_if(together.leads(), "images", all), 0);
    let (size, channels) = (folder.encoding().image_size as i64, source.channels() as i64);
    let config = PassConfig {
        batch_size: arguments.batch_size as usize,
        size: folder.encoding().image_size,
        workers: (std::thread::available_parallelism().map_or(1, usize::from) / together.size()).max(1),
        prefetch_batches: 3,
    };
    let mut pass = Pass::new(source, ranges.clone(), config)?;
    let before = folder.skipped()?;
    together.wait()?; // what others write is counted by them
    let mut broken = before;
    for (shard, range) in missing.into_iter().zip(ranges) {
        let mut shard = folder.begin(shard);
        let mut next = range.start;
        while next < range.end {
            let batch = pass.next().ok_or_else(|| {
                TrainerError::Unsupported("the thread that reads images ended without being told to".to_owned())
            })?;
            next = batch.indices.end;
            for file in &batch.broken {
                broken += 1;
                if broken > arguments.max_broken_files {
                    return Err(too_many_broken(&file.to_string(), broken));
                }
                progress.note(&format!("warning: left out {file}"));
                shard.skip(file);
            }
            if !batch.classes.is_empty() {
                let images = Tensor::f_from_slice(&batch.images)?.f_view([-1, channels, size, size])?;
                push(
                    &mut shard,
                    &images.f_to_device(together.compute.device)?,
                    &batch,
                    first_stage,
                    !arguments.no_mirror,
                )?;
            }
            done += batch.indices.len();
            progress.update(done, all);
        }
        folder.save(&shard)?;
    }
    let took = progress.finish();
    if together.leads() {
        eprintln!("{:.1} images/s, in {}", done as f64 / took.as_secs_f64(), duration(took));
    }
    // Each process alone may have stayed below the limit.
    match before + together.sum(broken - before)? {
        all if all > arguments.max_broken_files => Err(too_many_broken("the files of all processes are read", all)),
        _ => Ok(()),
    }
}

fn too_many_broken(what: &str, broken: usize) -> TrainerError {
    TrainerError::Usage(format!(
        "{what}. That is broken file number {broken}; `--max-broken-files {broken}` leaves it out"
    ))
}

/// Encodes a batch and its mirror images into the shard.
fn push(
    shard: &mut Shard,
    images: &Tensor,
    batch: &PassBatch,
    first_stage: &FirstStage,
    mirrored: bool,
) -> Result<(), TrainerError> {
    let values = |images: &Tensor| -> Result<Vec<f32>, TrainerError> {
        let moments = first_stage.encode(images)?.both()?;
        let flat = moments.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_reshape([-1])?;
        let mut values = vec![0.0; flat.numel()];
        flat.f_copy_data(&mut values, flat.numel())?;
        Ok(values)
    };
    let mut records = vec![values(images)?];
    if mirrored {
        records.push(values(&images.f_flip([3])?)?);
    }
    let length = records[0].len() / batch.classes.len();
    for (row, class) in batch.classes.iter().enumerate() {
        let moments: Vec<&[f32]> = records.iter().map(|values| &values[row * length..][..length]).collect();
        shard.push(*class, &moments).map_err(|error| {
            let images = format!("images {} to {}", batch.indices.start, batch.indices.end - 1);
            TrainerError::Unsupported(format!(
                "what the autoencoder made of one of the {images} cannot be stored: {error}"
            ))
        })?;
    }
    Ok(())
}

fn check(path: &Path) -> Result<u8, TrainerError> {
    let mut progress = None;
    let report = latents::check(path, |done, all| {
        progress.get_or_insert_with(|| Progress::new("files", all)).update(done, all);
    });
    if let Some(progress) = &progress {
        progress.finish();
    }
    let report = report?;
    let (images, files) = (counted(report.images, "image"), counted(report.shards, "file"));
    println!("{}: read {images} in {files}, {}", path.display(), bytes(report.bytes));
    if !report.problems.is_empty() {
        let (number, list) = (counted(report.problems.len(), "problem"), report.problems.join("\n  - "));
        return Err(TrainerError::Verification(format!(
            "{} has {number}:\n  - {list}\nDelete the files that are damaged, and index.json, and encode again: only what is missing is made",
            path.display()
        )));
    }
    if !report.finished {
        return Err(TrainerError::Verification(format!(
            "{} is not finished: {} missing; what is there is good. The same `encode` goes on with it",
            path.display(),
            if report.missing == 0 {
                "the index is".to_owned()
            } else {
                format!("{} are", counted(report.missing, "file"))
            }
        )));
    }
    let skipped =
        if report.skipped > 0 { format!("; {} left out", counted(report.skipped, "image")) } else { String::new() };
    println!("every byte is as it was written{skipped}");
    Ok(0)
}

fn listed(values: &[f64]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{value:.3}")).collect();
    format!("[{}]", values.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn find(arguments: &[&str]) -> Result<Job, String> {
        let arguments = [&["dim-trainer", "encode", "--out", "latents"], arguments].concat();
        match Cli::try_parse_from(arguments).map_err(|error| error.to_string())?.command {
            Command::Encode(arguments) => Job::find(&arguments).map_err(|error| error.to_string()),
            other => panic!("{other:?}"),
        }
    }

    fn config(name: &str) -> String {
        format!("{}/../../configs/{name}.toml", env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn a_configuration_says_what_is_encoded_and_the_command_line_goes_before_it() {
        let imagenet = config("imagenet256_h");
        let job = find(&["--config", &imagenet]).ok().unwrap();
        assert_eq!((job.image_size, job.weights.to_str()), (256, Some("weights/autoencoder_kl.pth")));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("0.tar"), b"").unwrap();
        let path = folder.path().to_str().unwrap();
        let other = ["--config", &imagenet, "--data", path, "--autoencoder", "a.pth", "--image-size", "64"];
        let job = find(&other).ok().unwrap();
        assert_eq!((job.image_size, job.weights.to_str()), (64, Some("a.pth")));
        assert!(
            matches!(job.data, DataConfig::WebDataset(_)) && matches!(data_at(Path::new("x")), DataConfig::Folder(_))
        );
    }

    #[test]
    fn what_is_missing_or_cannot_be_is_named() {
        let (imagenet, smoke) = (config("imagenet256_h"), config("smoke"));
        for (arguments, needle) in [
            (vec![], "--config"),
            (vec!["--data", "images"], "--autoencoder FILE"),
            (vec!["--config", &smoke], "no section [autoencoder]"),
            (vec!["--config", &imagenet, "--image-size", "17"], "--image-size 17: expected a multiple of 8"),
            (vec!["--check", "--data", "images"], "cannot be used with"),
        ] {
            let error = find(&arguments).err().unwrap();
            assert!(error.contains(needle), "{arguments:?}: {error}");
        }
    }
}
