//! safetensors files: what is written is read back, also by the format's own library, and damage is named.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, fs};

use dim_model::weights::{self, NameTable, Naming, WeightFile, WeightsError};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

const KINDS: [Kind; 10] = [
    Kind::Float,
    Kind::Half,
    Kind::BFloat16,
    Kind::Double,
    Kind::Int64,
    Kind::Int,
    Kind::Int16,
    Kind::Int8,
    Kind::Uint8,
    Kind::Bool,
];

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

fn assert_same(left: &Tensor, right: &Tensor) {
    assert_eq!((left.kind(), left.size(), bytes(left)), (right.kind(), right.size(), bytes(right)));
}

/// A tensor of any bits; not-a-numbers and infinities are among them.
fn tensor(kind: Kind, shape: &[i64], seed: i64) -> Tensor {
    let count: usize = shape.iter().product::<i64>() as usize;
    let length = count * kind.elt_size_in_bytes();
    let mut bytes: Vec<u8> = (0..length as i64).map(|i| (((seed + i) * 2_654_435_761) >> 7) as u8).collect();
    if kind == Kind::Bool {
        bytes.iter_mut().for_each(|byte| *byte &= 1);
    }
    Tensor::f_from_data_size(&bytes, shape, kind).unwrap()
}

fn small() -> Vec<(String, Tensor)> {
    vec![
        ("b".to_owned(), tensor(Kind::Float, &[2, 3], 1)),
        ("a".to_owned(), tensor(Kind::Half, &[5], 2)),
        ("c".to_owned(), tensor(Kind::Float, &[], 3)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back_bit_exact(
        described in prop::collection::btree_map(
            "[a-zé\"\\\\.0-9 ]{0,12}",
            (prop::sample::select(&KINDS), prop::collection::vec(0i64..5, 0..4), any::<u32>()),
            0..8,
        ),
        metadata in prop::collection::btree_map(".{0,8}", ".{0,16}", 0..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let tensors: Vec<(String, Tensor)> = described
            .into_iter()
            .map(|(name, (kind, shape, seed))| (name, tensor(kind, &shape, seed.into())))
            .collect();
        let copies = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
        weights::save(&path, copies, Naming::Ours, &metadata).unwrap();

        let file = WeightFile::open(&path).unwrap();
        prop_assert_eq!(file.metadata(), &metadata);
        let back: BTreeMap<String, Tensor> = file.read_all().unwrap().into_iter().collect();
        prop_assert_eq!(back.len(), tensors.len());
        let raw = fs::read(&path).unwrap();
        let official = safetensors::SafeTensors::deserialize(&raw).unwrap();
        for (name, tensor) in &tensors {
            assert_same(&back[name], tensor);
            let view = official.tensor(name).unwrap();
            let expected = bytes(tensor);
            prop_assert_eq!(view.data(), expected.as_slice());
            // Aligned as the format asks, so that others can map the file into memory.
            let place = view.data().as_ptr().addr() - raw.as_ptr().addr();
            prop_assert!(place.is_multiple_of(tensor.kind().elt_size_in_bytes()));
        }
    }
}

#[test]
fn files_of_the_formats_own_library_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let expected = small();
    let data: Vec<Vec<u8>> = expected.iter().map(|(_, tensor)| bytes(tensor)).collect();
    let views = expected.iter().zip(&data).map(|((name, tensor), data)| {
        let dtype = if tensor.kind() == Kind::Half { safetensors::Dtype::F16 } else { safetensors::Dtype::F32 };
        let shape = tensor.size().iter().map(|&size| size as usize).collect();
        (name.clone(), safetensors::tensor::TensorView::new(dtype, shape, data).unwrap())
    });
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into_iter().collect());
    safetensors::serialize_to_file(views, metadata, &path).unwrap();
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(file.metadata()["format"], "pt");
    let back: BTreeMap<String, Tensor> = file.read_all().unwrap().into_iter().collect();
    for (name, tensor) in &expected {
        assert_same(&back[name], tensor);
    }
}

#[test]
fn the_order_is_kept_within_a_type_and_equal_weights_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let metadata: BTreeMap<String, String> = (0..20).map(|i| (format!("key {i}"), i.to_string())).collect();
    let write = |name: &str| {
        let path = folder.path().join(name);
        weights::save(&path, small(), Naming::Ours, &metadata).unwrap();
        path
    };
    let (first, second) = (write("first"), write("second"));
    assert_eq!(fs::read(&first).unwrap(), fs::read(second).unwrap());
    let names: Vec<String> = WeightFile::open(first).unwrap().entries().iter().map(|e| e.name.clone()).collect();
    assert_eq!(names, ["b", "c", "a"]);
}

#[test]
fn a_shortened_or_lengthened_file_says_how_long_it_should_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    weights::save(&path, small(), Naming::Ours, &BTreeMap::new()).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let error = WeightFile::open(&path).unwrap_err();
    let (expected_length, length) = (whole.len() as u64, whole.len() as u64 - 3);
    assert!(
        matches!(&error, WeightsError::Truncated { path: at, expected, got }
            if *at == path && *expected == expected_length && *got == length),
        "{error}"
    );
    fs::write(&path, [&whole[..], b"!"].concat()).unwrap();
    let error = WeightFile::open(&path).unwrap_err().to_string();
    assert!(error.contains(&format!("expected {} bytes, got {} bytes", whole.len(), whole.len() + 1)), "{error}");
}

#[test]
fn a_file_that_shrinks_while_it_is_open_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    weights::save(&path, small(), Naming::Ours, &BTreeMap::new()).unwrap();
    let mut file = WeightFile::open(&path).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(40).unwrap();
    assert!(matches!(file.read(0), Err(WeightsError::Io { action: "read", .. })));
}

#[test]
fn failed_writes_leave_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    fs::write(&path, "the old file").unwrap();
    let complex = vec![
        ("a".to_owned(), tensor(Kind::Float, &[3], 0)),
        ("z".to_owned(), Tensor::zeros([2], (Kind::ComplexFloat, Device::Cpu))),
    ];
    let error = weights::save(&path, complex, Naming::Ours, &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("tensor `z`: expected f32, f16") && error.contains("got ComplexFloat"), "{error}");

    let twice = || small().into_iter().chain(small().into_iter().take(1));
    let error = weights::save(&path, twice(), Naming::Ours, &BTreeMap::new()).unwrap_err();
    assert!(matches!(&error, WeightsError::UnusableNames { names } if names == &["b"]), "{error}");

    let error = weights::write_atomically(&path, |writer| {
        std::io::Write::write_all(writer, &[0; 1 << 21]).unwrap();
        Err(WeightsError::UnusableNames { names: vec!["midway".to_owned()] })
    });
    assert!(error.is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "the old file");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_folder_that_is_not_there_or_is_the_target_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing").join("weights.safetensors");
    let error = weights::save(&path, small(), Naming::Ours, &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("cannot create") && error.contains("missing/weights.safetensors"), "{error}");
    assert!(weights::save(folder.path(), small(), Naming::Ours, &BTreeMap::new()).is_err());
}

#[cfg(unix)]
#[test]
fn a_written_file_has_the_permissions_of_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    weights::save(&path, small(), Naming::Ours, &BTreeMap::new()).unwrap();
    let other = folder.path().join("other");
    fs::write(&other, "").unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&other));
}

#[test]
fn files_that_are_not_weights_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    for (content, expected) in [
        (&b""[..], "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b"\x02\0\0\0\0\0\0\0{]", "header"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "truncated"),
        (b"\x40\0\0\0\0\0\0\0{}", "expected 72 bytes, got 10"),
    ] {
        fs::write(&path, content).unwrap();
        let error = weights::load(&path, NameTable::Dim).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("weights.safetensors"), "{error}");
    }
    let missing = weights::load(folder.path().join("none"), NameTable::Dim).unwrap_err().to_string();
    assert!(missing.contains("cannot open") && missing.contains("none"), "{missing}");
}
