//! `dim-trainer sample`: pictures from a run or from weights.

mod folder;
mod request;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use dim_data::Image;
use dim_model::Precision;
use dim_model::weights::{self, Naming};
use tch::Tensor;

pub(super) use self::request::set_steps;

use self::folder::ImageFolder;
use crate::cli::SampleArgs;
use crate::config::{Autoencoder, Config};
use crate::denoiser::Network;
use crate::device::{Compute, kind_of};
use crate::error::TrainerError;
use crate::files;
use crate::first_stage::FirstStage;
use crate::grid::{compose, enlarged, images_of};
use crate::png_file;
use crate::progress::Progress;
use crate::provenance::{Decoder, Drawing, FileIdentity, Of};
use crate::run_folder::RunFolder;
use crate::sampling::{Request, sample_each};
use crate::snapshot::{self, Snapshot};
use crate::train::checkpoint;

/// Where the picture goes if nothing is said.
const PICTURE: &str = "samples.png";

/// Images that a picture may show.
const MAX_SHOWN: usize = 65_536;

pub(super) fn run(arguments: SampleArgs) -> Result<u8, TrainerError> {
    let started = Instant::now();
    let subject = find(&arguments)?;
    let decoder = decoder(&arguments, &subject.config)?;
    let request = request::request(&arguments, &subject)?;
    let wanted = Wanted::of(&arguments, &request, decoder.is_none() && subject.config.autoencoder.is_some())?;
    let compute = Compute::start(arguments.compute, subject.config.train.threads)?;
    let precision = compute.precision(subject.config.train.precision)?;
    // What is wrong with files is told at once, before the samples are drawn, which may take long.
    let first_stage = decoder.map(|(path, section)| FirstStage::load(path, section, compute.device, precision));
    let first_stage = first_stage.transpose()?;
    let drawing = Drawing {
        program: Drawing::program(),
        weights: FileIdentity::of(&subject.path)?,
        group: arguments.run.is_some().then(|| group(&arguments).to_owned()),
        autoencoder: match (&first_stage, decoder) {
            (Some(stage), Some((_, section))) => Some(Decoder {
                file: FileIdentity::of(stage.weights())?,
                scaling_factor: stage.sizes().scaling_factor,
                tile_above: section.tile_above,
            }),
            _ => None,
        },
        seed: request.seed,
        size: request.size.map(|side| side * first_stage.as_ref().map_or(1, |stage| stage.sizes().downsampling())),
        upsample: request.upsample,
        enlarge: arguments.enlarge,
        sampler: request.sampler,
        schedule: request.schedule,
        time_shift: request.time_shift,
        prediction: subject.config.diffusion.prediction,
        cfg_scale: request.cfg_scale,
        guidance_interval: request.guidance_interval,
        guidance_rescale: request.guidance_rescale,
        device: kind_of(compute.device).to_owned(),
        precision: precision.name().to_owned(),
    };
    let images = describe(&request, &subject.classes);
    let folder = wanted.folder.as_deref().map(|path| ImageFolder::open(path, &drawing)).transpose()?;
    let indices = match &folder {
        Some(folder) => folder.missing(&images)?,
        None => images.iter().map(|image| image.index).collect(),
    };

    let mut drawn = Drawn::default();
    if !indices.is_empty() {
        let network = load(&arguments, &subject, &compute, precision)?;
        let mut progress = Progress::new("images", indices.len());
        let observer = |done, all| {
            progress.update(done, all);
            ControlFlow::Continue(())
        };
        let result = sample_each(&network, &request, &indices, observer, |indices, batch| {
            if wanted.latents.is_some() {
                drawn.latents.push(batch.shallow_clone());
            }
            let pixels = match &first_stage {
                Some(first_stage) => first_stage.decode(&batch)?,
                None if wanted.pixels() => batch,
                None => return Ok(()),
            };
            let pixels = images_of(&enlarged(&pixels, arguments.enlarge.into())?)?;
            let pixels: Vec<(Of, Image)> =
                indices.iter().map(|index| images[*index as usize].clone()).zip(pixels).collect();
            if let Some(folder) = &folder {
                folder.write(&pixels)?;
            }
            if wanted.picture.is_some() {
                drawn.images.extend(pixels.into_iter().map(|(of, image)| (of.index, image)));
            }
            Ok(())
        });
        progress.finish();
        result?;
    }

    if let Some(path) = &wanted.latents {
        save_latents(path, &Tensor::f_cat(&drawn.latents, 0)?, &request)?;
    }
    if let Some(path) = &wanted.picture {
        let shown = images.iter().map(|image| match (drawn.images.remove(&image.index), &folder) {
            (Some(image), _) => Ok(image),
            (None, Some(folder)) => folder.read(image.index),
            (None, None) => Err(TrainerError::Unsupported(format!("image {} was not drawn", image.index))),
        });
        let shown = shown.collect::<Result<Vec<_>, _>>()?;
        let square = || square_columns(request.count);
        let full_grid =
            arguments.count.is_none() && request.count == subject.config.sample.rows * subject.config.sample.columns;
        let columns = if full_grid { subject.config.sample.columns } else { square() };
        let texts = drawing.texts_of_grid(request.classes.as_deref(), request.count, columns);
        files::write_bytes_atomically(path, &png_file::encode(&compose(&shown, columns)?, &texts)?)?;
    }
    report(&arguments, &wanted, &drawing, [images.len(), indices.len()], started);
    Ok(0)
}

/// Where the results go.
struct Wanted {
    /// One picture of all images.
    picture: Option<PathBuf>,
    /// A PNG for each.
    folder: Option<PathBuf>,
    latents: Option<PathBuf>,
}

impl Wanted {
    /// What the command line asks for, which must be writable.
    fn of(arguments: &SampleArgs, request: &Request, latents_only: bool) -> Result<Self, TrainerError> {
        let picture = match (&arguments.out, &arguments.folder) {
            _ if latents_only => None,
            (Some(path), _) => Some(path.clone()),
            (None, Some(_)) => None,
            (None, None) => Some(PathBuf::from(PICTURE)),
        };
        if picture.is_some() && request.count > MAX_SHOWN {
            return Err(TrainerError::Usage(format!(
                "{} images are too many for one picture, which shows at most {MAX_SHOWN}: write them to `--folder DIR`",
                request.count
            )));
        }
        for path in picture.iter().chain(&arguments.latents) {
            files::check_writable(path)?;
        }
        Ok(Self { picture, folder: arguments.folder.clone(), latents: arguments.latents.clone() })
    }

    /// Whether latents alone will not do.
    fn pixels(&self) -> bool {
        self.picture.is_some() || self.folder.is_some()
    }
}

/// What is kept until the end.
#[derive(Default)]
struct Drawn {
    images: BTreeMap<u64, Image>,
    latents: Vec<Tensor>,
}

/// Index and class of every image.
fn describe(request: &Request, names: &[String]) -> Vec<Of> {
    let class = |index: usize| request.classes.as_ref().map(|classes| classes[index]);
    let name = |class: i64| names.get(usize::try_from(class).ok()?).cloned();
    (0..request.count)
        .map(|index| Of { index: index as u64, class: class(index), class_name: class(index).and_then(name) })
        .collect()
}

/// Which weights of a checkpoint are meant.
fn group(arguments: &SampleArgs) -> &'static str {
    if arguments.no_ema { "parameters" } else { "ema" }
}

/// The network with its weights.
fn load(
    arguments: &SampleArgs,
    subject: &Snapshot,
    compute: &Compute,
    precision: Precision,
) -> Result<Network, TrainerError> {
    let network = Network::unfilled(&subject.config, compute.device, precision)?;
    match &arguments.weights {
        Some(path) => snapshot::load(path, &network)?,
        None => checkpoint::load_weights(&subject.path, network.parameters(), group(arguments))?,
    }
    Ok(network)
}

/// Says what was written, for people or for programs.
fn report(arguments: &SampleArgs, wanted: &Wanted, drawing: &Drawing, [images, drawn]: [usize; 2], started: Instant) {
    let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let (latents, folder, picture) = (shown(&wanted.latents), shown(&wanted.folder), shown(&wanted.picture));
    if arguments.json {
        let result = serde_json::json!({
            "images": images,
            "drawn": drawn,
            "picture": picture,
            "folder": folder,
            "latents": latents,
            "seconds": started.elapsed().as_secs_f64(),
            "parameters": drawing,
        });
        println!("{result}");
    } else {
        [latents, folder, picture].into_iter().flatten().for_each(|path| println!("{path}"));
    }
}

/// The file of the autoencoder that the network's latents go through, and its section; `None` for a network that draws pixels,
/// and where latents are all that is wanted.
fn decoder<'a>(
    arguments: &'a SampleArgs,
    config: &'a Config,
) -> Result<Option<(&'a Path, &'a Autoencoder)>, TrainerError> {
    let usage = |message: String| Err(TrainerError::Usage(message));
    match (&config.autoencoder, arguments.autoencoder.as_deref(), arguments.latents.as_deref()) {
        (None, None, None) => Ok(None),
        (None, Some(path), _) => usage(format!("--autoencoder {}: this network draws pixels itself", path.display())),
        (None, None, Some(path)) => usage(format!("--latents {}: this network draws pixels", path.display())),
        (Some(section), asked, latents) => match asked.or(section.weights.as_deref()) {
            Some(path) => Ok(Some((path, section))),
            None if latents.is_some() => Ok(None),
            None => usage(
                "this network draws latents: give their autoencoder's weights with `--autoencoder FILE` or as \
                 `autoencoder.weights` in the configuration, or write the latents themselves with `--latents FILE`"
                    .to_owned(),
            ),
        },
    }
}

/// Writes `latents` `[image, channel, row, column]`, f32, as the network draws them, and `classes` `[image]`, i64, if it has any.
fn save_latents(path: &Path, latents: &Tensor, request: &Request) -> Result<(), TrainerError> {
    let mut tensors = vec![("latents".to_owned(), latents.shallow_clone())];
    if let Some(classes) = &request.classes {
        tensors.push(("classes".to_owned(), Tensor::f_from_slice(classes)?));
    }
    weights::save(path, tensors, Naming::Ours, &BTreeMap::new())?;
    Ok(())
}

/// What to sample from.
fn find(arguments: &SampleArgs) -> Result<Snapshot, TrainerError> {
    match (&arguments.weights, &arguments.run) {
        (Some(path), _) => snapshot::describe(path, arguments.config.as_deref()),
        (None, Some(path)) => {
            snapshot::newest(&RunFolder::new(path), "train one, or sample from a file with `--weights`")
        }
        (None, None) => Err(TrainerError::Usage("expected `--run DIR` or `--weights FILE`".to_owned())),
    }
}

/// As square as whole rows allow, wider rather than higher.
fn square_columns(count: usize) -> usize {
    (1..=count).find(|columns| columns * columns >= count).unwrap_or(1)
}
