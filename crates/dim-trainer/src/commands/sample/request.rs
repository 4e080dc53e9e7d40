//! What to draw: the configuration's defaults under the command line's choices.

use dim_diffusion::sampler::{
    AncestralOptions, DdimOptions, DpmMultistepOptions, DpmSolverOptions, EdmOptions, EulerMaruyamaOptions,
    FlowOptions, Parametrization, Sampler, Spacing, UniPcOptions,
};
use dim_model::BackboneConfig;

use crate::cli::{MAX_COUNT, SampleArgs, SamplerName, Size};
use crate::config::{Autoencoder, Config, Schedule};
use crate::error::TrainerError;
use crate::format::alternatives;
use crate::sampling::{Request, cycle_classes};
use crate::snapshot::Snapshot;

/// Images that go through the network at once, unless the command line or the run says otherwise.
const BATCH_SIZE: usize = 16;

/// The configuration's defaults under the command line's choices.
pub(super) fn request(arguments: &SampleArgs, subject: &Snapshot) -> Result<Request, TrainerError> {
    let config = &subject.config;
    let classes = classes(&arguments.class, subject)?;
    let listed = classes.as_ref().filter(|classes| classes.counted).map(|classes| classes.list.len());
    let full_grid = config.sample.rows * config.sample.columns;
    let count = arguments.count.map(|count| count as usize).or(listed).unwrap_or(full_grid);
    let size = size(arguments.size, config, arguments.upsample)?;
    let mut request = Request {
        count,
        classes: classes.map(|classes| cycle_classes(&classes.list, count)),
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

/// The classes to draw, in turn.
struct Classes {
    list: Vec<i64>,
    /// Whether the list says how many images there are to be of each.
    counted: bool,
}

/// The classes named on the command line, else all of them; `None` for a network without classes.
fn classes(asked: &[String], subject: &Snapshot) -> Result<Option<Classes>, TrainerError> {
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
        return Ok(Some(Classes { list: (0..trained).collect(), counted: false }));
    }
    let mut classes = Classes { list: Vec::new(), counted: false };
    for class in asked {
        // A name may have a colon itself.
        let (index, count) = match (class_index(class, known, &subject.classes), class.rsplit_once(':')) {
            (Some(index), _) => (index, 1),
            (None, Some((name, count))) => {
                classes.counted = true;
                let index = class_index(name, known, &subject.classes);
                (index.ok_or_else(|| unknown_class(name, known, &subject.classes))?, class_count(class, count)?)
            }
            (None, None) => return Err(unknown_class(class, known, &subject.classes)),
        };
        classes.list.extend(std::iter::repeat_n(index, count));
    }
    Ok(Some(classes))
}

/// The class of this name or number.
fn class_index(class: &str, known: i64, names: &[String]) -> Option<i64> {
    let by_name = names.iter().position(|name| name.eq_ignore_ascii_case(class.trim())).map(|index| index as i64);
    by_name.or_else(|| class.trim().parse().ok().filter(|index| (0..known).contains(index)))
}

/// The number behind a class.
fn class_count(class: &str, count: &str) -> Result<usize, TrainerError> {
    let number = count.trim().parse().ok().filter(|count| (1..=MAX_COUNT as usize).contains(count));
    number.ok_or_else(|| {
        TrainerError::Usage(format!(
            "--class {class}: expected a number of images from 1 to {MAX_COUNT} after the colon"
        ))
    })
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
        set_steps(&mut sampler, asked);
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

/// Makes a sampler call the network so often for each image.
pub(in crate::commands) fn set_steps(sampler: &mut Sampler, asked: usize) {
    match sampler {
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
