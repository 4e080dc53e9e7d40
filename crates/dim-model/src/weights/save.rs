//! From a network's parameters to a file.

use std::{collections::BTreeMap, path::Path};

use dim_torch::Parameters;
use tch::Tensor;

use super::{
    FileFormat, Naming, WeightsError,
    diffusers::{self, AttentionNames},
    names, pytorch, safetensors,
};

/// Writes tensors under our names to a safetensors file, in their order.
///
/// With another [`Naming`] names and layouts are those of other code. The file is replaced as a whole or not at
/// all; the same tensors and metadata give the same bytes. Tensors keep their element types.
///
/// # Errors
/// Two tensors of one name, an element type that is not supported, a key that is not in the table of names, or a folder or
/// disk that cannot take the file.
pub fn save(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (String, Tensor)>,
    naming: Naming,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    save_as(path, tensors, naming, FileFormat::Safetensors, metadata)
}

/// Writes tensors as [`save`] does, in any format; metadata are dropped where the format has no place for them.
///
/// # Errors
/// As [`save`].
pub fn save_as(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (String, Tensor)>,
    naming: Naming,
    format: FileFormat,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let tensors: Vec<(String, Tensor)> = match naming {
        Naming::Ours => tensors.into_iter().collect(),
        Naming::Authors => renamed(tensors, "the authors' code", names::to_authors)?,
        Naming::Diffusers { levels } => renamed(tensors, "diffusers", |name, tensor| {
            diffusers::to_diffusers(name, tensor, levels, AttentionNames::default())
        })?,
    };
    match format {
        FileFormat::Safetensors => safetensors::write(path.as_ref(), &tensors, metadata),
        FileFormat::PyTorch => pytorch::write(path.as_ref(), &tensors),
    }
}

/// Writes every parameter in order, as [`save`] does.
///
/// # Errors
/// As [`save`].
pub fn save_parameters(
    path: impl AsRef<Path>,
    parameters: &Parameters,
    naming: Naming,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let tensors = parameters.iter().map(|(spec, tensor)| (spec.name.clone(), tensor.detach()));
    save(path, tensors, naming, metadata)
}

fn renamed(
    tensors: impl IntoIterator<Item = (String, Tensor)>,
    whose: &'static str,
    rename: impl Fn(&str, &Tensor) -> Option<(String, Tensor)>,
) -> Result<Vec<(String, Tensor)>, WeightsError> {
    let mut translated = Vec::new();
    let mut unknown = Vec::new();
    for (name, tensor) in tensors {
        match rename(&name, &tensor) {
            Some(entry) => translated.push(entry),
            None => unknown.push(format!("{name} {:?}", tensor.size())),
        }
    }
    if unknown.is_empty() { Ok(translated) } else { Err(WeightsError::NoSuchName { whose, names: unknown }) }
}
