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
use super::together::Together;
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
    let train = &subject.config.train;
    let together = Together::start("sample", &arguments, (arguments.compute, train.threads), &train.distributed)?;
    if together.world.is_some() && !arguments.sequence_parallel && arguments.folder.is_none() {
        return Err(TrainerError::Usage(format!(
            "{} processes draw either a share each of the images of a folder, `--folder DIR`, or every image together, \
             `--sequence-parallel`",
            together.size()
        )));
    }
    let latents_only = decoder.is_none() && subject.config.autoencoder.is_some();
    let wanted = Wanted::of(&arguments, &request, latents_only)?;
    if together.leads() {
        wanted.check_writable()?;
    }
    let compute = together.compute;
    let cuda_graphs = compute.cuda_graphs(arguments.cuda_graphs)?;
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
    let open = || wanted.folder.as_deref().map(|path| ImageFolder::open(path, &drawing, together.leads())).transpose();
    let folder = together.leader_first(open)?;
    let indices = match &folder {
        Some(folder) => folder.missing(&images, together.leads())?,
        None => images.iter().map(|image| image.index).collect(),
    };
    together.wait()?; // what one draws may not be there yet when another looks what is missing
    // Of whole batches, so that any number of processes draws the bits that one does.
    let share = match arguments.sequence_parallel {
        true => indices.clone(),
        false => together.share(indices.chunks(request.batch_size.max(1))).concat(),
    };
    let keeps = together.leads() || !arguments.sequence_parallel;

    let mut drawn = Drawn::default();
    if !share.is_empty() {
        let mut network = load(&arguments, &subject, &compute, precision)?;
        if let Some(world) = together.world.as_ref().filter(|_| arguments.sequence_parallel) {
            network.split_sequence(world)?;
        }
        if cuda_graphs {
            network.record_calls();
        }
        let mut progress = Progress::shown_if(together.leads(), "images", share.len());
        let mut last = (0, Instant::now());
        let observer = |done, all| {
            progress.update(done, all);
            if arguments.time_steps {
                compute.wait();
                // A batch also shows what it begins with.
                if done > last.0 {
                    drawn.step_seconds.push(last.1.elapsed().as_secs_f64());
                }
                last = (done, Instant::now());
            }
            ControlFlow::Continue(())
        };
        let result = sample_each(&network, &request, &share, observer, |indices, batch| {
            if !keeps {
                return Ok(());
            }
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
    drawn.peak_memory_bytes = together.peak_memory()?;
    together.wait()?; // the images of all are there
    if together.leads() {
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
            let sample = &subject.config.sample;
            let full_grid = arguments.count.is_none() && request.count == sample.rows * sample.columns;
            let columns = if full_grid { sample.columns } else { square_columns(request.count) };
            let texts = drawing.texts_of_grid(request.classes.as_deref(), request.count, columns);
            files::write_bytes_atomically(path, &png_file::encode(&compose(&shown, columns)?, &texts)?)?;
        }
        report(&arguments, &wanted, &drawing, &drawn, [images.len(), indices.len(), together.size()], started);
    }
    together.leave()?;
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
    /// What the command line asks for.
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
        Ok(Self { picture, folder: arguments.folder.clone(), latents: arguments.latents.clone() })
    }

    /// Makes sure that the files can be written.
    fn check_writable(&self) -> Result<(), TrainerError> {
        self.picture.iter().chain(&self.latents).try_for_each(|path| files::check_writable(path))
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
    /// How long each step took, if that is asked for.
    step_seconds: Vec<f64>,
    /// Of the fullest GPU.
    peak_memory_bytes: Option<i64>,
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
        None if arguments.untrained => network.initialise(subject.config.train.seed)?,
        None => checkpoint::load_weights(&subject.path, network.parameters(), group(arguments))?,
    }
    Ok(network)
}

/// Says what was written, for people or for programs.
fn report(
    arguments: &SampleArgs,
    wanted: &Wanted,
    drawing: &Drawing,
    drawn: &Drawn,
    [images, new, processes]: [usize; 3],
    started: Instant,
) {
    let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let (latents, folder, picture) = (shown(&wanted.latents), shown(&wanted.folder), shown(&wanted.picture));
    if arguments.json {
        let mut result = serde_json::json!({
            "images": images,
            "drawn": new,
            "processes": processes,
            "picture": picture,
            "folder": folder,
            "latents": latents,
            "seconds": started.elapsed().as_secs_f64(),
            "parameters": drawing,
        });
        if let Some(bytes) = drawn.peak_memory_bytes {
            result["peak_memory_bytes"] = bytes.into();
        }
        if arguments.time_steps {
            result["step_seconds"] = serde_json::json!(drawn.step_seconds);
        }
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
    match (&arguments.weights, &arguments.run, &arguments.config) {
        (Some(path), _, config) => snapshot::describe(path, config.as_deref()),
        (None, Some(path), _) => {
            snapshot::newest(&RunFolder::new(path), "train one, or sample from a file with `--weights`")
        }
        (None, None, Some(path)) if arguments.untrained => {
            Ok(Snapshot { path: path.clone(), config: Config::load(path, &[])?, classes: Vec::new() })
        }
        _ => Err(TrainerError::Usage("expected `--run DIR` or `--weights FILE`".to_owned())),
    }
}

/// As square as whole rows allow, wider rather than higher.
fn square_columns(count: usize) -> usize {
    (1..=count).find(|columns| columns * columns >= count).unwrap_or(1)
}
