//! `dim-trainer sample`: pictures from a run or from weights.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use dim_diffusion::sampler::{
    AncestralOptions, DdimOptions, DpmMultistepOptions, DpmSolverOptions, EdmOptions, EulerMaruyamaOptions,
    FlowOptions, Parametrization, Sampler, Spacing, UniPcOptions,
};
use dim_model::BackboneConfig;
use dim_model::weights::{self, Naming};
use dim_torch::Parameters;
use indicatif::{ProgressBar, ProgressStyle};
use tch::Tensor;

use crate::cli::{SampleArgs, SamplerName, Size};
use crate::config::{Autoencoder, Config, Schedule};
use crate::denoiser::Network;
use crate::device::Compute;
use crate::error::TrainerError;
use crate::files;
use crate::first_stage::FirstStage;
use crate::format::alternatives;
use crate::grid::{enlarged, grid};
use crate::run_folder::RunFolder;
use crate::sampling::{Request, cycle_classes, sample};
use crate::snapshot::{self, Snapshot};
use crate::train::checkpoint;

/// Images that go through the network at once, unless the command line or the run says otherwise.
const BATCH_SIZE: usize = 16;

pub(super) fn run(arguments: SampleArgs) -> Result<u8, TrainerError> {
    let subject = find(&arguments)?;
    let decoder = decoder(&arguments, &subject.config)?;
    let request = request(&arguments, &subject)?;
    let compute = Compute::start(arguments.compute, subject.config.train.threads)?;
    let precision = compute.precision(subject.config.train.precision)?;
    // Before the samples are drawn, which may take long, for what is wrong with its file to be told at once.
    let first_stage = decoder.map(|(path, section)| FirstStage::load(path, section, compute.device, precision));
    let first_stage = first_stage.transpose()?;

    let model = &subject.config.model;
    let specs = model.parameter_specs();
    // Without gradients: half the memory.
    let parameters = Parameters::from_flat(&specs, Parameters::zeros(&specs, compute.device)?.values())?;
    let network = Network::new(model.clone(), parameters, precision)?.predicting(subject.config.diffusion.prediction);
    match &arguments.weights {
        Some(path) => snapshot::load(path, &network)?,
        None => {
            let group = if arguments.no_ema { "parameters" } else { "ema" };
            checkpoint::load_weights(&subject.path, network.parameters(), group)?;
        }
    }

    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} steps  {eta} left") {
        bar.set_style(style);
    }
    let images = sample(&network, &request, |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    if let Some(path) = &arguments.latents {
        save_latents(path, &images, &request)?;
    }
    let images = match (&first_stage, &subject.config.autoencoder) {
        (Some(first_stage), _) => first_stage.decode(&images)?,
        (None, None) => images,
        (None, Some(_)) => return Ok(0),
    };
    let columns = if arguments.count.is_none() { subject.config.sample.columns } else { square_columns(request.count) };
    let images = enlarged(&images, arguments.enlarge.into())?;
    files::write_bytes_atomically(&arguments.out, &grid(&images, columns)?.png)?;
    println!("{}", arguments.out.display());
    Ok(0)
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
    println!("{}", path.display());
    Ok(())
}

/// What to sample from.
fn find(arguments: &SampleArgs) -> Result<Snapshot, TrainerError> {
    match (&arguments.weights, &arguments.run) {
        (Some(path), _) => snapshot::describe(path, arguments.config.as_deref()),
        (None, Some(path)) => newest_checkpoint(&RunFolder::new(path)),
        (None, None) => Err(TrainerError::Usage("expected `--run DIR` or `--weights FILE`".to_owned())),
    }
}

fn newest_checkpoint(run: &RunFolder) -> Result<Snapshot, TrainerError> {
    let advice = "train one, or sample from a file with `--weights`".to_owned();
    let path =
        checkpoint::list(run)?.pop().ok_or_else(|| TrainerError::NoCheckpoint { path: run.checkpoints(), advice })?;
    let about: checkpoint::About = checkpoint::about(&path).map_err(|error| error.offering(None))?;
    Ok(Snapshot { path, config: about.config, classes: about.data.classes })
}

/// The configuration's defaults under the command line's choices.
fn request(arguments: &SampleArgs, subject: &Snapshot) -> Result<Request, TrainerError> {
    let config = &subject.config;
    let count = arguments.count.map_or(config.sample.rows * config.sample.columns, |count| count as usize);
    let size = size(arguments.size, config, arguments.upsample)?;
    let mut request = Request {
        count,
        classes: classes(&arguments.class, subject)?.map(|classes| cycle_classes(&classes, count)),
        size,
        upsample: arguments.upsample.map(usize::from),
        guidance_interval: arguments.guidance_interval,
        guidance_rescale: rescale(arguments.guidance_rescale)?,
        cfg_scale: arguments.cfg_scale.unwrap_or(config.sample.cfg_scale),
        seed: arguments.seed.unwrap_or(config.sample.seed),
        sampler: sampler(arguments, config.sample.sampler)?,
        schedule: config.diffusion.schedule,
        time_shift: time_shift(arguments.time_shift, config, size)?,
        batch_size: arguments.batch_size.map_or(BATCH_SIZE, |size| size as usize),
    };
    if request.cfg_scale != 1.0 && config.unconditional() {
        return Err(TrainerError::Usage(format!(
            "--cfg-scale {}: this network was trained without classes, so there is nothing to guide to",
            request.cfg_scale
        )));
    }
    if request.classes.is_none() {
        request.cfg_scale = 1.0;
    }
    Ok(request)
}

/// The classes named on the command line, else all of them; `None` for a network without classes.
fn classes(asked: &[String], subject: &Snapshot) -> Result<Option<Vec<i64>>, TrainerError> {
    let known = subject.config.model.classes() as i64;
    if subject.config.unconditional() {
        return match asked.first() {
            None => Ok(None),
            Some(class) => {
                Err(TrainerError::Usage(format!("--class {class}: this network was trained without classes")))
            }
        };
    }
    if asked.is_empty() {
        let trained = if subject.classes.is_empty() { known } else { subject.classes.len() as i64 };
        return Ok(Some((0..trained).collect()));
    }
    let find = |class: &String| {
        let by_name =
            subject.classes.iter().position(|name| name.eq_ignore_ascii_case(class.trim())).map(|index| index as i64);
        by_name
            .or_else(|| class.trim().parse().ok().filter(|index| (0..known).contains(index)))
            .ok_or_else(|| unknown_class(class, known, &subject.classes))
    };
    asked.iter().map(find).collect::<Result<Vec<_>, _>>().map(Some)
}

fn unknown_class(class: &str, known: i64, names: &[String]) -> TrainerError {
    let names = if names.is_empty() { String::new() } else { format!(" or one of {}", alternatives(names)) };
    TrainerError::Usage(format!("--class {class}: expected a class from 0 to {}{names}", known - 1))
}

/// Rows and columns of the network's input, for pictures of the size that was asked for.
fn size(asked: Option<Size>, config: &Config, upsample: Option<u8>) -> Result<[usize; 2], TrainerError> {
    let (model, factor) = (&config.model, upsample.map_or(1, usize::from));
    let Some(Size { height, width }) = asked else { return Ok([model.image_size() * factor; 2]) };
    let rate = config.autoencoder.as_ref().map_or(1, Autoencoder::downsampling);
    // Shrunk by the factor, the image must still be one that the network takes.
    let multiple = model.size_multiple() * rate * factor;
    if height.is_multiple_of(multiple) && width.is_multiple_of(multiple) {
        return Ok([height / rate, width / rate]);
    }
    let mut why = "what the network takes".to_owned();
    if rate > 1 {
        why.push_str(&format!(" times {rate}, the factor of its autoencoder"));
    }
    if let Some(factor) = upsample {
        why.push_str(&format!(" times {factor}, the factor of --upsample"));
    }
    Err(TrainerError::Usage(format!("--size {height}x{width}: both must be multiples of {multiple}, {why}")))
}

/// The time shift of a rectified flow: what was asked for, else that of training, times the side of these images over that of the
/// training images (Esser et al., arXiv 2403.03206, section 5.3.2).
fn time_shift(asked: Option<f64>, config: &Config, size: [usize; 2]) -> Result<f64, TrainerError> {
    match asked {
        None if config.diffusion.schedule == Schedule::Flow => {
            let side = (size[0] as f64 * size[1] as f64).sqrt();
            Ok(config.diffusion.time_shift * side / config.model.image_size() as f64)
        }
        None => Ok(1.0),
        Some(shift) if config.diffusion.schedule != Schedule::Flow => Err(TrainerError::Usage(format!(
            "--time-shift {shift}: this network was not trained with the schedule flow, the only one with a time shift"
        ))),
        Some(shift) if shift > 0.0 && shift.is_finite() => Ok(shift),
        Some(shift) => Err(TrainerError::Usage(format!("--time-shift {shift}: expected a number above 0"))),
    }
}

fn rescale(phi: f64) -> Result<f64, TrainerError> {
    if (0.0..=1.0).contains(&phi) {
        return Ok(phi);
    }
    Err(TrainerError::Usage(format!("--guidance-rescale {phi}: expected a number from 0 to 1")))
}

fn sampler(arguments: &SampleArgs, configured: Sampler) -> Result<Sampler, TrainerError> {
    let mut sampler = match arguments.sampler {
        None => configured,
        Some(SamplerName::DpmPlusPlus) => Sampler::DpmSolver(DpmSolverOptions {
            parametrization: Parametrization::Data,
            ..DpmSolverOptions::default()
        }),
        Some(SamplerName::Dpm) => Sampler::DpmSolver(DpmSolverOptions {
            parametrization: Parametrization::Noise,
            ..DpmSolverOptions::default()
        }),
        Some(SamplerName::DpmMultistep) => Sampler::DpmMultistep(DpmMultistepOptions::default()),
        Some(SamplerName::DpmMultistepSde) => {
            Sampler::DpmMultistep(DpmMultistepOptions { stochastic: true, ..Default::default() })
        }
        Some(SamplerName::Heun) => Sampler::Edm(EdmOptions::default()),
        Some(SamplerName::Euler) => Sampler::Edm(EdmOptions { order: 1, steps: 36, ..EdmOptions::default() }),
        Some(SamplerName::UniPc) => Sampler::UniPc(UniPcOptions::default()),
        Some(SamplerName::FlowEuler) => Sampler::Flow(FlowOptions::default()),
        Some(SamplerName::FlowHeun) => Sampler::Flow(FlowOptions { order: 2, steps: 25, ..FlowOptions::default() }),
        Some(SamplerName::Ddim) => Sampler::Ddim(DdimOptions::default()),
        Some(SamplerName::Ancestral) => Sampler::Ancestral(AncestralOptions::default()),
        Some(SamplerName::EulerAncestral) => {
            let spacing = Spacing::Edm { rho: EdmOptions::default().rho };
            Sampler::Ancestral(AncestralOptions { steps: 40, spacing, ..AncestralOptions::default() })
        }
        Some(SamplerName::EulerMaruyama) => Sampler::EulerMaruyama(EulerMaruyamaOptions::default()),
    };
    if let Some(asked) = arguments.steps {
        match &mut sampler {
            Sampler::DpmSolver(DpmSolverOptions { steps, .. })
            | Sampler::DpmMultistep(DpmMultistepOptions { steps, .. })
            | Sampler::Edm(EdmOptions { steps, .. })
            | Sampler::UniPc(UniPcOptions { steps, .. })
            | Sampler::Flow(FlowOptions { steps, .. })
            | Sampler::Ddim(DdimOptions { steps, .. })
            | Sampler::Ancestral(AncestralOptions { steps, .. })
            | Sampler::EulerMaruyama(EulerMaruyamaOptions { steps, .. }) => *steps = asked,
        }
    }
    if let Some(asked) = arguments.order {
        match &mut sampler {
            Sampler::DpmSolver(options) => options.order = asked,
            Sampler::DpmMultistep(options) => options.order = asked,
            Sampler::Edm(options) => options.order = asked,
            Sampler::UniPc(options) => options.order = asked,
            Sampler::Flow(options) => options.order = asked,
            Sampler::Ddim(_) | Sampler::Ancestral(_) | Sampler::EulerMaruyama(_) => {
                return Err(TrainerError::Usage(format!(
                    "--order {asked}: DDIM and the ancestral and SDE samplers have no order; choose another with `--sampler dpm++`"
                )));
            }
        }
    }
    if let Some(asked) = arguments.eta {
        match &mut sampler {
            Sampler::Ddim(options) => options.eta = asked,
            _ => return Err(TrainerError::Usage(format!("--eta {asked}: only `--sampler ddim` has an eta"))),
        }
    }
    sampler.validate().map_err(|error| TrainerError::Usage(format!("sampler: {error}")))?;
    Ok(sampler)
}

/// As square as whole rows allow, wider rather than higher.
fn square_columns(count: usize) -> usize {
    (1..=count).find(|columns| columns * columns >= count).unwrap_or(1)
}
