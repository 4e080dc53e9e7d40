//! From a file to a network's parameters.

use std::path::Path;

use dim_torch::{ParameterSpec, Parameters};
use tch::Tensor;

use super::{
    WeightFile, WeightsError,
    file::Entry,
    layout::Layout,
    mismatch::{Candidate, Misfit, Mismatch},
    naming::{self, NameTable, Renamed},
};

/// Reads every tensor of a file to the CPU, under our names and in our layouts.
///
/// The format is told by the content: safetensors, or a PyTorch file such as the authors' `nnet_ema.pth`. So are the
/// names: the authors' are translated, a prefix that all keys share (`module.`) is taken off, and keys that are in
/// neither table stay as they are. Tensors keep their element types; those of a PyTorch file may share memory.
///
/// # Errors
/// As [`WeightFile::open`] and [`WeightFile::read`], or a tensor of a shape that the authors' layout cannot have.
pub fn load(path: impl AsRef<Path>, table: NameTable) -> Result<Vec<(String, Tensor)>, WeightsError> {
    load_file(WeightFile::open(path)?, table)
}

/// Reads every tensor of an open file to the CPU, as [`load`] does.
///
/// # Errors
/// As [`load`].
pub fn load_file(mut file: WeightFile, table: NameTable) -> Result<Vec<(String, Tensor)>, WeightsError> {
    let renamed = renamed(file.entries(), table);
    let candidates = candidates(file.entries(), &renamed);
    let wrong_shape = candidates.into_iter().filter_map(|candidate| candidate.shape.err()).collect();
    Mismatch { wrong_shape, ..Mismatch::default() }.into_result()?;
    (renamed.into_iter().enumerate())
        .filter(|(_, renamed)| !renamed.passed_over)
        .map(|(index, Renamed { name, layout, .. })| Ok((name, read(&mut file, index, layout)?)))
        .collect()
}

/// Copies tensors under our names into the parameters, converting element type and device.
///
/// # Errors
/// [`WeightsError::Mismatch`] with every missing, unexpected, wrongly shaped and wrongly typed key; nothing is written
/// unless all fit.
pub fn assign(parameters: &Parameters, tensors: &[(String, Tensor)]) -> Result<(), WeightsError> {
    let candidates = tensors.iter().map(|(name, tensor)| Candidate {
        name: name.clone(),
        shape: Ok(tensor.size()),
        kind: tensor.kind(),
    });
    Mismatch::between(parameters.specs(), candidates).into_result()?;
    tensors.iter().try_for_each(|(name, tensor)| copy(parameters, name, tensor))
}

/// Copies an open file's tensors into the parameters one at a time, so that there is no second copy in memory.
///
/// Names are translated as by [`load`]. All keys are checked before the first tensor is written. Bytes are checked as
/// they are read: after an error from [`WeightFile::read`] the parameters are partly the old ones and partly the file's.
///
/// # Errors
/// As [`assign`] and [`WeightFile::read`].
pub fn assign_file(parameters: &Parameters, mut file: WeightFile, table: NameTable) -> Result<(), WeightsError> {
    let renamed = renamed(file.entries(), table);
    Mismatch::between(parameters.specs(), candidates(file.entries(), &renamed)).into_result()?;
    (renamed.iter().enumerate())
        .filter(|(_, renamed)| !renamed.passed_over)
        .try_for_each(|(index, renamed)| copy(parameters, &renamed.name, &read(&mut file, index, renamed.layout)?))
}

/// Compares an open file's keys with what a network needs; no tensor is read.
///
/// # Errors
/// As [`assign`].
pub fn check_file(specs: &[ParameterSpec], file: &WeightFile, table: NameTable) -> Result<(), WeightsError> {
    let renamed = renamed(file.entries(), table);
    Ok(Mismatch::between(specs, candidates(file.entries(), &renamed)).into_result()?)
}

fn renamed(entries: &[Entry], table: NameTable) -> Vec<Renamed> {
    let keys: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    naming::to_ours(&keys, table)
}

/// The file's tensors as they will be once their layouts are ours.
fn candidates(entries: &[Entry], renamed: &[Renamed]) -> Vec<Candidate> {
    let candidate = |(entry, renamed): (&Entry, &Renamed)| Candidate {
        name: renamed.name.clone(),
        shape: renamed.layout.shape_to_ours(&entry.shape).ok_or_else(|| unfit(entry, renamed.layout)),
        kind: entry.kind,
    };
    entries.iter().zip(renamed).filter(|(_, renamed)| !renamed.passed_over).map(candidate).collect()
}

fn read(file: &mut WeightFile, index: usize, layout: Layout) -> Result<Tensor, WeightsError> {
    let tensor = file.read(index)?;
    let unfit = || Mismatch { wrong_shape: vec![unfit(&file.entries()[index], layout)], ..Mismatch::default() };
    Ok(layout.to_ours(&tensor).ok_or_else(unfit)?)
}

fn unfit(entry: &Entry, layout: Layout) -> Misfit {
    Misfit { name: entry.name.clone(), expected: layout.authors_form().to_owned(), got: format!("{:?}", entry.shape) }
}

fn copy(parameters: &Parameters, name: &str, tensor: &Tensor) -> Result<(), WeightsError> {
    let mut parameter = parameters.leaf(name)?;
    tch::no_grad(|| parameter.f_copy_(tensor))
        .map_err(|source| WeightsError::Libtorch { action: format!("copying `{name}`"), source })
}
