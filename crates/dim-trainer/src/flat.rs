//! Flat buffers, taken apart into the parameters that they hold.

use dim_torch::{ParameterSpec, Parameters, TorchError};
use tch::Tensor;

/// Every parameter's part of flat buffers, under the buffer's name and its own.
///
/// # Errors
/// [`TorchError::FlatBuffer`] if a buffer's length is another.
pub(crate) fn named(specs: &[ParameterSpec], flat: &[(String, Tensor)]) -> Result<Vec<(String, Tensor)>, TorchError> {
    let mut tensors = Vec::with_capacity(flat.len() * specs.len());
    for (group, flat) in flat {
        let views = Parameters::from_flat(specs, flat.shallow_clone())?;
        tensors.extend(views.iter().map(|(spec, view)| (format!("{group}.{}", spec.name), view.shallow_clone())));
    }
    Ok(tensors)
}
