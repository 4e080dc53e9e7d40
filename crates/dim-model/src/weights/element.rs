//! The element types that weight files and libtorch share.

use safetensors::Dtype;
use tch::Kind;

/// The supported types in words, for errors.
pub(super) const SUPPORTED: &str = "f32, f16, bf16, f64, i64, i32, i16, i8, u8 or bool";

/// libtorch's type, safetensors' type, and the class of PyTorch's storage of it.
const ELEMENTS: [(Kind, Dtype, &str); 10] = [
    (Kind::Float, Dtype::F32, "FloatStorage"),
    (Kind::Half, Dtype::F16, "HalfStorage"),
    (Kind::BFloat16, Dtype::BF16, "BFloat16Storage"),
    (Kind::Double, Dtype::F64, "DoubleStorage"),
    (Kind::Int64, Dtype::I64, "LongStorage"),
    (Kind::Int, Dtype::I32, "IntStorage"),
    (Kind::Int16, Dtype::I16, "ShortStorage"),
    (Kind::Int8, Dtype::I8, "CharStorage"),
    (Kind::Uint8, Dtype::U8, "ByteStorage"),
    (Kind::Bool, Dtype::BOOL, "BoolStorage"),
];

/// libtorch's type for a safetensors type.
pub(super) fn kind_of_dtype(dtype: Dtype) -> Option<Kind> {
    ELEMENTS.iter().find(|element| element.1 == dtype).map(|element| element.0)
}

/// safetensors' type for a libtorch type.
pub(super) fn dtype_of_kind(kind: Kind) -> Option<Dtype> {
    ELEMENTS.iter().find(|element| element.0 == kind).map(|element| element.1)
}

/// The name and libtorch's type of a class of PyTorch's storages, such as `FloatStorage`.
pub(super) fn storage_class(class: &str) -> Option<(&'static str, Kind)> {
    ELEMENTS.iter().find(|element| element.2 == class).map(|element| (element.2, element.0))
}

/// The class of PyTorch's storages of a libtorch type.
pub(super) fn storage_class_of(kind: Kind) -> Option<&'static str> {
    ELEMENTS.iter().find(|element| element.0 == kind).map(|element| element.2)
}

/// Number of elements of a shape and their length in bytes; `None` for a negative size or an overflow.
pub(super) fn count_and_bytes(shape: &[i64], kind: Kind) -> Option<(i64, u64)> {
    let mut count: i64 = 1;
    for &size in shape {
        count = count.checked_mul(size).filter(|_| size >= 0)?;
    }
    let bytes = u64::try_from(count).ok()?.checked_mul(kind.elt_size_in_bytes() as u64)?;
    Some((count, bytes))
}
