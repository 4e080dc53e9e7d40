//! Checks of arguments that more than one module makes.

use tch::{Kind, Tensor};

use crate::DiffusionError;

/// The batch size of `x`, which must hold f32 or f64 (or what `kinds` allows) and start with a batch dimension.
pub(crate) fn batch_of(argument: &str, x: &Tensor, kinds: &[Kind]) -> Result<i64, DiffusionError> {
    if !kinds.contains(&x.kind()) {
        return Err(DiffusionError::WrongKind {
            argument: argument.to_owned(),
            expected: if kinds.contains(&Kind::BFloat16) { "floating-point numbers" } else { "f32 or f64" },
            actual: x.kind(),
        });
    }
    match x.size().first() {
        Some(&batch) if batch > 0 => Ok(batch),
        _ => Err(DiffusionError::WrongShape {
            argument: argument.to_owned(),
            expected: "[batch, …] with a batch of at least 1".to_owned(),
            actual: x.size(),
        }),
    }
}

/// The kinds that samplers work in.
pub(crate) const SAMPLING_KINDS: &[Kind] = &[Kind::Float, Kind::Double];
/// The kinds that training can noise images in.
pub(crate) const TRAINING_KINDS: &[Kind] = &[Kind::Float, Kind::Double, Kind::BFloat16, Kind::Half];

pub(crate) fn same_shape(argument: &str, x: &Tensor, expected: &[i64]) -> Result<(), DiffusionError> {
    if x.size() == expected {
        return Ok(());
    }
    Err(DiffusionError::WrongShape {
        argument: argument.to_owned(),
        expected: format!("{expected:?}"),
        actual: x.size(),
    })
}

/// Shape and kind of class labels; says nothing of their values.
pub(crate) fn class_form(class: &Tensor, batch: i64) -> Result<(), DiffusionError> {
    same_shape("class", class, &[batch])?;
    if class.kind() == Kind::Int64 {
        return Ok(());
    }
    Err(DiffusionError::WrongKind { argument: "class".to_owned(), expected: "i64", actual: class.kind() })
}

/// The values of class labels, each of which must lie in `0..=null_class`. Waits for the labels' device.
pub(crate) fn class_values(class: &Tensor, null_class: i64) -> Result<Vec<i64>, DiffusionError> {
    let values = Vec::<i64>::try_from(class)?;
    match values.iter().position(|value| !(0..=null_class).contains(value)) {
        None => Ok(values),
        Some(position) => Err(DiffusionError::ClassOutOfRange { position, class: values[position], null_class }),
    }
}
