//! The classes and functions that a pickle of tensors may name, and what calling them means here.
//!
//! A pickle can name any function of Python, and unpickling calls it. Here a name only ever selects one of the few
//! meanings below; any other name is an error.

use crate::weights::element;

use super::value::{Global, Id, StorageRecord, TensorRecord, Value, Values};

/// libtorch's limit for most operations on strided tensors.
const MOST_DIMENSIONS: usize = 64;

/// The meaning of a name; `None` for one that is not on the list.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
        // The second is for parameters with attributes of Python's, such as Mamba's `_no_weight_decay`.
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Some(Global::RebuildParameter),
        ("torch" | "torch.cuda" | "torch.storage", class) => {
            element::storage_class(class).map(|(class, kind)| Global::Storage(class, kind))
        }
        _ => None,
    }
}

/// What comes of calling `function` with `arguments`; otherwise what was expected and what came.
pub(super) fn call(values: &mut Values, function: Id, arguments: Id) -> Result<Id, (String, String)> {
    let Value::Global(function) = *values.get(function) else {
        return Err(("a function".to_owned(), values.describe(function).to_owned()));
    };
    let Value::Tuple(arguments) = values.get(arguments) else {
        return Err(("a tuple of arguments".to_owned(), values.describe(arguments).to_owned()));
    };
    match (function, arguments.as_slice()) {
        (Global::OrderedDict, []) => Ok(values.push(Value::Dict(Vec::new()))),
        (Global::RebuildTensor, &[storage, offset, shape, strides, ..]) => {
            let record = tensor(values, storage, offset, shape, strides)?;
            Ok(values.push(Value::Tensor(Box::new(record))))
        }
        (Global::RebuildParameter, &[data, ..]) if matches!(values.get(data), Value::Tensor(_)) => Ok(data),
        (function, arguments) => {
            Err((format!("arguments that {function:?} takes"), format!("{} arguments", arguments.len())))
        }
    }
}

/// The storage that a persistent identifier `("storage", class, key, device, count)` means; files of before PyTorch 1.6 have a sixth
/// part, `None` in all but those in which one storage is a part of another.
pub(super) fn storage(values: &Values, identifier: Id) -> Result<StorageRecord, (String, String)> {
    let wrong = || ("an identifier of a storage".to_owned(), values.describe(identifier).to_owned());
    let Value::Tuple(parts) = values.get(identifier) else { return Err(wrong()) };
    let (parts, rest) = parts.split_at(parts.len().min(5));
    let &[tag, class, key, _device, count] = parts else { return Err(wrong()) };
    if !(rest.is_empty() || rest.len() == 1 && matches!(values.get(rest[0]), Value::None)) {
        return Err(wrong());
    }
    match (values.get(tag), values.get(class), values.get(key), values.get(count)) {
        (Value::Text(tag), Value::Global(Global::Storage(class, kind)), Value::Text(key), Value::Int(count))
            if tag == "storage" && *count >= 0 =>
        {
            Ok(StorageRecord { key: key.clone(), class, kind: *kind, count: *count })
        }
        _ => Err(wrong()),
    }
}

fn tensor(values: &Values, storage: Id, offset: Id, shape: Id, strides: Id) -> Result<TensorRecord, (String, String)> {
    let Value::Storage(record) = values.get(storage) else {
        return Err(("a storage".to_owned(), values.describe(storage).to_owned()));
    };
    let Value::Int(offset) = *values.get(offset) else {
        return Err(("an offset".to_owned(), values.describe(offset).to_owned()));
    };
    let (shape, strides) = (sizes(values, shape)?, sizes(values, strides)?);
    if shape.len() != strides.len() {
        return Err((format!("strides for {shape:?}"), format!("{strides:?}")));
    }
    if !lies_within(record.count, offset, &shape, &strides) {
        let view = format!("offset {offset}, shape {shape:?}, strides {strides:?}");
        return Err((format!("a view of {} elements", record.count), view));
    }
    Ok(TensorRecord { storage, offset, shape, strides })
}

/// A tuple of integers that are not negative.
fn sizes(values: &Values, tuple: Id) -> Result<Vec<i64>, (String, String)> {
    let Value::Tuple(items) = values.get(tuple) else {
        return Err(("a tuple of sizes".to_owned(), values.describe(tuple).to_owned()));
    };
    if items.len() > MOST_DIMENSIONS {
        return Err((format!("at most {MOST_DIMENSIONS} dimensions"), format!("{}", items.len())));
    }
    items
        .iter()
        .map(|&item| match values.get(item) {
            Value::Int(size) if *size >= 0 => Ok(*size),
            Value::Int(size) => Err(("a size or stride of at least 0".to_owned(), format!("{size}"))),
            _ => Err(("a size or stride".to_owned(), values.describe(item).to_owned())),
        })
        .collect()
}

/// Whether every element of the view is one of the storage's `count`, and the view's own elements can be counted.
fn lies_within(count: i64, offset: i64, shape: &[i64], strides: &[i64]) -> bool {
    let elements = shape.iter().try_fold(1i64, |product, &size| product.checked_mul(size));
    if offset < 0 || elements.is_none() {
        return false;
    }
    if elements == Some(0) {
        return offset <= count;
    }
    let last = shape
        .iter()
        .zip(strides)
        .try_fold(offset, |last, (&size, &stride)| last.checked_add((size - 1).checked_mul(stride)?));
    last.is_some_and(|last| last < count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn functions_that_act_are_not_on_the_list() {
        for (module, name) in [
            ("posix", "system"),
            ("os", "system"),
            ("builtins", "eval"),
            ("__builtin__", "exec"),
            ("torch", "load"),
            ("torch._utils", "_rebuild_device_tensor_from_numpy"),
            ("torch.storage", "_load_from_bytes"),
            ("collections", "OrderedDict.fromkeys"),
            ("torch", "FloatStorage.from_file"),
            ("", ""),
        ] {
            assert_eq!(find(module, name), None, "{module}.{name}");
        }
    }

    proptest! {
        #[test]
        fn a_view_lies_within_its_storage_if_each_of_its_elements_does(
            count in 0i64..20,
            offset in 0i64..6,
            dimensions in prop::collection::vec((0i64..4, 0i64..5), 0..4),
        ) {
            let (shape, strides): (Vec<i64>, Vec<i64>) = dimensions.iter().copied().unzip();
            let mut places = vec![offset];
            for (size, stride) in &dimensions {
                places = places.iter().flat_map(|place| (0..*size).map(move |i| place + i * stride)).collect();
            }
            let expected = places.iter().all(|place| *place < count) && (!places.is_empty() || offset <= count);
            prop_assert_eq!(lies_within(count, offset, &shape, &strides), expected);
        }

        #[test]
        fn no_sizes_overflow(count in any::<i64>(), offset in any::<i64>(), shape in prop::collection::vec(0..i64::MAX, 0..5)) {
            let strides = shape.clone();
            lies_within(count, offset, &shape, &strides);
        }
    }
}
