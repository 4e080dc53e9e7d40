//! `dim-trainer convert`: weights in another format, under other names or in another precision, checked after writing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dim_model::weights::{self, DiffusersFolder, FileFormat, Holder, NameTable, Naming, WeightFile, names};
use dim_model::{AutoencoderConfig, BackboneConfig};
use dim_torch::{ParameterSpec, Parameters};
use tch::{Device, Kind, Tensor};

use crate::cli::{ConvertArgs, DtypeChoice, FormatChoice, NamesChoice};
use crate::config::Config;
use crate::error::TrainerError;
use crate::files;
use crate::first_stage;
use crate::format::{bytes, counted, thousands};
use crate::snapshot;
use crate::train::checkpoint;

/// How the names of PyTorch's files end.
const PYTORCH: [&str; 4] = ["pth", "pt", "bin", "ckpt"];

/// Names that an error lists before it only counts.
const SHOWN: usize = 10;

pub(super) fn run(arguments: ConvertArgs) -> Result<u8, TrainerError> {
    let source = Source::read(&arguments)?;
    let target = Target::of(&arguments, &source)?;
    target.check()?;
    let (tensors, rounding) = match arguments.dtype {
        None => (source.tensors, 0.0),
        Some(dtype) => with_dtype(source.tensors, kind_of(dtype))?,
    };
    if let Some((path, text)) = &target.config {
        files::create_folder(&arguments.output)?;
        files::write_bytes_atomically(path, text.as_bytes())?;
    }
    let copies = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
    weights::save_as(&target.file, copies, target.naming, target.format, &source.metadata)?;
    read_back(&target.file, source.table, &tensors)?;

    let file_bytes = std::fs::metadata(&target.file).map_err(|source| TrainerError::read(&target.file, source))?.len();
    let parameters: usize = tensors.iter().map(|(_, tensor)| tensor.numel()).sum();
    if arguments.json {
        let result = serde_json::json!({
            "written": target.file,
            "tensors": tensors.len(),
            "parameters": parameters,
            "bytes": file_bytes,
            "largest_rounding_error": rounding,
            "checked_against": source.checked,
        });
        println!("{result}");
        return Ok(0);
    }
    eprintln!(
        "{}, {} parameters, {}; read back and compared: every bit is the same",
        counted(tensors.len(), "tensor"),
        thousands(parameters as u64),
        bytes(file_bytes)
    );
    if rounding > 0.0 {
        eprintln!("rounding changed no number by more than {rounding:.1e} of the largest of its tensor");
    }
    if source.checked.is_none() {
        eprintln!("the weights carry no configuration, so that nothing says whether any are missing; `--config` does");
    }
    println!("{}", target.file.display());
    Ok(0)
}

/// What is to be converted: tensors under our names.
struct Source {
    tensors: Vec<(String, Tensor)>,
    metadata: BTreeMap<String, String>,
    table: NameTable,
    holder: Holder,
    /// The sizes of an autoencoder.
    sizes: Option<AutoencoderConfig>,
    /// What all keys were compared with.
    checked: Option<String>,
}

impl Source {
    fn read(arguments: &ConvertArgs) -> Result<Self, TrainerError> {
        let config = arguments.config.as_deref().map(|path| Config::load(path, &[])).transpose()?;
        let input = &arguments.input;
        let folder = if input.is_dir() { Some(DiffusersFolder::open(input)?) } else { None };
        let path = folder.as_ref().map_or(input, |folder| &folder.weights);
        let file = match &arguments.dictionary {
            Some(key) => WeightFile::open_dictionary(path, key)?,
            None => WeightFile::open(path)?,
        };
        if checkpoint::is_checkpoint(file.metadata()) {
            return Self::of_checkpoint(path, arguments);
        }
        if arguments.no_ema {
            return Err(TrainerError::Usage(format!("--no-ema: {} is no checkpoint of a run", path.display())));
        }
        let holder = weights::recognise(&file);
        if holder == Holder::Autoencoder {
            return Self::of_autoencoder(file, folder.map(|folder| folder.sizes), config.as_ref());
        }
        Self::of_network(file, holder, config)
    }

    fn of_network(file: WeightFile, holder: Holder, given: Option<Config>) -> Result<Self, TrainerError> {
        let mut metadata = file.metadata().clone();
        let config = match given {
            Some(config) => {
                snapshot::add_config(&mut metadata, &config)?;
                Some(config)
            }
            None => snapshot::config_of(&file)?,
        };
        let table = config.as_ref().map_or(NameTable::Dim, |config| config.model.name_table());
        if let Some(config) = &config {
            weights::check_file(&config.model.parameter_specs(), &file, table)?;
        }
        let checked = config.map(|config| format!("the configuration of a {}", config.model.backbone()));
        let tensors = weights::load_file(file, table)?;
        Ok(Self { tensors, metadata, table, holder, sizes: None, checked })
    }

    fn of_autoencoder(
        file: WeightFile,
        of_folder: Option<AutoencoderConfig>,
        config: Option<&Config>,
    ) -> Result<Self, TrainerError> {
        let section = config.and_then(|config| config.autoencoder.as_ref());
        let sizes = match (of_folder, section) {
            (Some(sizes), _) => sizes,
            (None, Some(section)) => section.sizes(),
            (None, None) => first_stage::sizes_of(&file)?.unwrap_or_else(AutoencoderConfig::kl_f8),
        };
        weights::check_file(&sizes.parameter_specs(), &file, sizes.name_table()).map_err(|error| {
            TrainerError::OtherAutoencoder {
                path: file.path().to_owned(),
                problem: format!(
                    "expected {}; sizes other than KL-f8's come from a diffusers' folder or from `--config` with a section \
                     [autoencoder]\n{error}",
                    serde_json::json!(sizes)
                ),
            }
        })?;
        let mut metadata = file.metadata().clone();
        metadata.insert(first_stage::SIZES.to_owned(), serde_json::json!(sizes).to_string());
        let table = sizes.name_table();
        let tensors = weights::load_file(file, table)?;
        let checked = Some("the sizes of an autoencoder".to_owned());
        Ok(Self { tensors, metadata, table, holder: Holder::Autoencoder, sizes: Some(sizes), checked })
    }

    fn of_checkpoint(path: &Path, arguments: &ConvertArgs) -> Result<Self, TrainerError> {
        if let Some(config) = &arguments.config {
            let problem = format!("--config {}: a checkpoint carries its own configuration", config.display());
            return Err(TrainerError::Usage(problem));
        }
        let about = checkpoint::about::<Config>(path)?;
        let group = if arguments.no_ema { "parameters" } else { "ema" };
        let specs: Vec<ParameterSpec> = about.config.model.parameter_specs();
        let parameters = Parameters::zeros(&specs, Device::Cpu)?;
        checkpoint::load_weights(path, &parameters, group)?;
        let tensors = parameters.iter().map(|(spec, tensor)| (spec.name.clone(), tensor.detach())).collect();
        let metadata = snapshot::metadata(
            &about.config,
            &about.data.classes,
            BTreeMap::from([
                ("images_seen".to_owned(), about.images_seen.to_string()),
                ("weights".to_owned(), group.to_owned()),
            ]),
        )?;
        let table = about.config.model.name_table();
        let holder = if table == NameTable::Dim { Holder::Dim } else { Holder::Other };
        let checked = Some("the checkpoint's own configuration".to_owned());
        Ok(Self { tensors, metadata, table, holder, sizes: None, checked })
    }
}

/// What is to be written.
struct Target {
    file: PathBuf,
    naming: Naming,
    format: FileFormat,
    /// `config.json` of a diffusers' folder.
    config: Option<(PathBuf, String)>,
    overwrite: bool,
}

impl Target {
    fn of(arguments: &ConvertArgs, source: &Source) -> Result<Self, TrainerError> {
        let usage = |problem: String| Err(TrainerError::Usage(problem));
        let (path, overwrite) = (&arguments.output, arguments.overwrite);
        if same_file(&arguments.input, path) {
            return usage(format!("{}: expected another file to write than the one to convert", path.display()));
        }
        let by_name = match path.extension().and_then(|extension| extension.to_str()) {
            Some(extension) if PYTORCH.contains(&extension) => FileFormat::PyTorch,
            _ => FileFormat::Safetensors,
        };
        let format = arguments.format.map_or(by_name, |format| match format {
            FormatChoice::Safetensors => FileFormat::Safetensors,
            FormatChoice::Pytorch => FileFormat::PyTorch,
        });
        match (arguments.names, &source.sizes) {
            (NamesChoice::Diffusers, Some(sizes)) => {
                if format == FileFormat::PyTorch {
                    return usage("--names diffusers writes a folder with safetensors in it".to_owned());
                }
                if path.is_file() {
                    return usage(format!("--names diffusers writes a folder, and {} is a file", path.display()));
                }
                let naming = Naming::Diffusers { levels: sizes.channel_mult.len() };
                let config = Some(DiffusersFolder::config_in(path, sizes));
                Ok(Self { file: DiffusersFolder::weights_in(path), naming, format, config, overwrite })
            }
            (NamesChoice::Diffusers, None) => {
                usage(format!("--names diffusers: {} is no autoencoder", arguments.input.display()))
            }
            (NamesChoice::Authors, _) if source.holder == Holder::Dim => {
                known_to_authors(&arguments.input, &source.tensors)?;
                Ok(Self { file: path.clone(), naming: Naming::Authors, format, config: None, overwrite })
            }
            // The authors load the autoencoder and other networks under the published names, which are ours.
            (NamesChoice::Authors | NamesChoice::Ours, _) => {
                if source.holder == Holder::Dim {
                    known_to_authors(&arguments.input, &source.tensors)?;
                }
                Ok(Self { file: path.clone(), naming: Naming::Ours, format, config: None, overwrite })
            }
        }
    }

    /// Nothing that is there is replaced unless that is wanted.
    fn check(&self) -> Result<(), TrainerError> {
        let there = [Some(&self.file), self.config.as_ref().map(|(path, _)| path)].into_iter().flatten();
        match there.into_iter().find(|path| path.exists()) {
            Some(path) if !self.overwrite => Err(TrainerError::Usage(format!(
                "{} is there already; replace it with `--overwrite`, or choose another name",
                path.display()
            ))),
            _ => Ok(()),
        }
    }
}

/// Whether two paths are one file that exists.
fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Every key of a DiM must be in the table of names, also where no configuration tells what is missing.
fn known_to_authors(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), TrainerError> {
    let strangers = tensors.iter().filter(|(name, tensor)| names::to_authors(name, tensor).is_none());
    let strangers: Vec<String> = strangers.map(|(name, tensor)| format!("{name} {:?}", tensor.size())).collect();
    if strangers.is_empty() {
        return Ok(());
    }
    let more = strangers.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("\n  … and {more} more") } else { String::new() };
    Err(TrainerError::Unsupported(format!(
        "{} holds {} that no DiM has:\n  {}{more}",
        path.display(),
        counted(strangers.len(), "tensor"),
        strangers[..strangers.len().min(SHOWN)].join("\n  ")
    )))
}

fn kind_of(dtype: DtypeChoice) -> Kind {
    match dtype {
        DtypeChoice::F32 => Kind::Float,
        DtypeChoice::F16 => Kind::Half,
        DtypeChoice::Bf16 => Kind::BFloat16,
    }
}

/// The tensors with their floating-point numbers in another type, and the largest change relative to the largest number of its
/// tensor.
fn with_dtype(tensors: Vec<(String, Tensor)>, kind: Kind) -> Result<(Vec<(String, Tensor)>, f64), TrainerError> {
    let (mut converted, mut worst, mut lost) = (Vec::with_capacity(tensors.len()), 0.0_f64, Vec::new());
    for (name, tensor) in tensors {
        if !tensor.is_floating_point() || tensor.numel() == 0 {
            converted.push((name, tensor));
            continue;
        }
        let narrow = tensor.f_to_kind(kind)?;
        let exact = tensor.f_to_kind(Kind::Double)?;
        let change = (narrow.f_to_kind(Kind::Double)? - &exact).f_abs()?.f_nan_to_num(0.0, f64::INFINITY, None)?;
        let (change, largest) = (change.f_max()?.f_double_value(&[])?, exact.f_abs()?.f_max()?.f_double_value(&[])?);
        if change.is_infinite() {
            lost.push(format!("{name}, up to {largest:.3e}"));
        } else if largest > 0.0 {
            worst = worst.max(change / largest);
        }
        converted.push((name, narrow));
    }
    if lost.is_empty() {
        return Ok((converted, worst));
    }
    Err(TrainerError::Unsupported(format!(
        "--dtype: {} would become infinite; bf16 has the range of f32:\n  {}",
        counted(lost.len(), "tensor"),
        lost[..lost.len().min(SHOWN)].join("\n  ")
    )))
}

/// Compares what stands in the file now, taken back to our names, with what was to be written.
fn read_back(path: &Path, table: NameTable, tensors: &[(String, Tensor)]) -> Result<(), TrainerError> {
    let changed = |what: String| {
        Err(TrainerError::Unsupported(format!(
            "{} was written, but does not read back the same: {what}",
            path.display()
        )))
    };
    let mut wanted: BTreeMap<&str, &Tensor> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    for (name, tensor) in weights::load(path, table)? {
        match wanted.remove(name.as_str()) {
            Some(expected) if same_bits(expected, &tensor)? => {}
            Some(_) => return changed(format!("`{name}` differs")),
            None => return changed(format!("`{name}` is too much")),
        }
    }
    wanted.keys().next().map_or(Ok(()), |name| changed(format!("`{name}` is missing")))
}

fn same_bits(one: &Tensor, other: &Tensor) -> Result<bool, TrainerError> {
    if (one.kind(), one.size()) != (other.kind(), other.size()) {
        return Ok(false);
    }
    let bits = |tensor: &Tensor| tensor.f_contiguous()?.f_view([-1])?.f_view_dtype(Kind::Uint8);
    Ok(bits(one)?.f_equal(&bits(other)?)?)
}
