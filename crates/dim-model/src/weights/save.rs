//! From a network's parameters to a file.

use std::{collections::BTreeMap, path::Path};

use dim_torch::Parameters;
use tch::Tensor;

use super::{Naming, WeightsError, names, safetensors};

/// Writes tensors under our names to a safetensors file, in their order.
///
/// With [`Naming::Authors`] names and layouts are those of the authors' code. The file is replaced as a whole or not at
/// all; the same tensors and metadata give the same bytes. Tensors keep their element types.
///
/// # Errors
/// Two tensors of one name, an element type that is not supported, a key that is not in the authors' table (with
/// [`Naming::Authors`]), or a folder or disk that cannot take the file.
pub fn save(
    path: impl AsRef<Path>,
    tensors: impl IntoIterator<Item = (String, Tensor)>,
    naming: Naming,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let tensors: Vec<(String, Tensor)> = match naming {
        Naming::Ours => tensors.into_iter().collect(),
        Naming::Authors => to_authors(tensors)?,
    };
    safetensors::write(path.as_ref(), &tensors, metadata)
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

fn to_authors(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Vec<(String, Tensor)>, WeightsError> {
    let mut translated = Vec::new();
    let mut unknown = Vec::new();
    for (name, tensor) in tensors {
        match names::to_authors(&name, &tensor) {
            Some(entry) => translated.push(entry),
            None => unknown.push(format!("{name} {:?}", tensor.size())),
        }
    }
    if unknown.is_empty() { Ok(translated) } else { Err(WeightsError::NoAuthorsName { names: unknown }) }
}
