//! Files that PyTorch itself wrote (`fixtures/make_pytorch_fixtures.py`), read without Python.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;

use dim_model::weights::{self, NameTable, WeightFile, WeightsError, names};
use tch::{Device, Kind, Tensor};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn read(name: &str) -> Vec<(String, Tensor)> {
    WeightFile::open(fixture(name)).unwrap().read_all().unwrap()
}

/// The rule of the fixtures: element i of tensor number t is t + i / 1024.
fn counted(number: usize, shape: &[i64], kind: Kind) -> Tensor {
    let count: i64 = shape.iter().product();
    (Tensor::arange(count, (Kind::Double, Device::Cpu)) / 1024.0 + number as f64).view(shape).to_kind(kind)
}

fn assert_tensor(name: &str, tensor: &Tensor, expected: &Tensor) {
    assert_eq!(tensor.kind(), expected.kind(), "{name}");
    assert_eq!(tensor.size(), expected.size(), "{name}");
    assert!(tensor.equal(expected), "{name}: {tensor:?}");
}

fn assert_counted(tensors: &[(String, Tensor)], expected: &[&str]) {
    let found: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(found, expected);
    for (number, (name, tensor)) in tensors.iter().enumerate() {
        assert_tensor(name, tensor, &counted(number, &[2, 3], Kind::Float));
    }
}

fn error(name: &str) -> String {
    WeightFile::open(fixture(name)).unwrap_err().to_string()
}

#[test]
fn a_state_dictionary_is_read_in_order_with_its_values() {
    let file = WeightFile::open(fixture("dim.pth")).unwrap();
    let entries = file.entries().to_vec();
    assert_eq!(entries.len(), 3 + 3 * 11 + 2 + 19);
    assert_eq!(entries[0].name, "additional_embed");
    assert_eq!(entries[0].shape, [1, 6, 4]);
    assert_eq!(entries.last().unwrap().name, "proj_out_1.bias");
    for (number, (name, tensor)) in file.read_all().unwrap().into_iter().enumerate() {
        assert_tensor(&name, &tensor, &counted(number, &entries[number].shape, Kind::Float));
    }
}

#[test]
fn the_authors_names_become_ours_and_come_back_bit_exact() {
    let theirs = read("dim.pth");
    let ours = weights::load(fixture("dim.pth"), NameTable::Dim).unwrap();
    assert_eq!(ours.len(), theirs.len());
    for ((authors, original), (name, tensor)) in theirs.iter().zip(&ours) {
        assert_eq!(names::name_to_ours(authors).unwrap().0, *name);
        let (back, restored) = names::to_authors(name, tensor).unwrap();
        assert_eq!(back, *authors);
        assert_tensor(authors, &restored, original);
    }
    let shape = |wanted: &str| ours.iter().find(|(name, _)| name == wanted).unwrap().1.size();
    assert_eq!(shape("position_table"), [6, 4]);
    assert_eq!(shape("blocks.2.mamba.conv1d.weight"), [8, 3]);
    assert_eq!(shape("blocks.2.long_skip.weight"), [4, 8]);
    assert_eq!(shape("separator_tokens"), [3, 4]);
    assert_eq!(shape("padding_tokens"), [3, 4]);
    assert_eq!(shape("local_conv_in.weight"), [4, 3, 3]);
}

#[test]
fn views_of_one_storage_have_their_elements() {
    let tensors = read("views.pth");
    let base = counted(0, &[3, 4], Kind::Float);
    let element = |row: i64, column: i64| base.get(row).get(column);
    let expected = [
        ("base", base.shallow_clone()),
        ("transposed", base.transpose(0, 1)),
        ("row", base.get(1)),
        ("column", base.select(1, 2)),
        ("strided", base.slice(0, 0, 3, 2).slice(1, 1, 4, 2)),
        ("expanded", element(2, 3).expand([2, 3], false)),
        ("scalar", element(1, 1)),
        ("empty", Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))),
    ];
    assert_eq!(tensors.len(), expected.len());
    for ((name, tensor), (expected_name, expected)) in tensors.iter().zip(&expected) {
        assert_eq!(name, expected_name);
        assert_tensor(name, tensor, expected);
    }
    // As in PyTorch, the tensors share memory; the transposed one is a view, not a copy.
    assert_eq!(tensors[1].1.stride(), [1, 4]);
    assert_eq!(tensors[0].1.data_ptr(), tensors[1].1.data_ptr());
}

#[test]
fn every_element_type_is_read() {
    let expected_floats = [Kind::Double, Kind::Float, Kind::Half, Kind::BFloat16];
    let expected_integers = [Kind::Int64, Kind::Int, Kind::Int16, Kind::Int8, Kind::Uint8];
    let tensors = read("dtypes.pth");
    assert_eq!(tensors.len(), 10);
    for ((name, tensor), kind) in tensors.iter().zip(expected_floats) {
        assert_tensor(name, tensor, &counted(1, &[2, 2], Kind::Double).to_kind(kind));
    }
    let integers = Tensor::from_slice(&[0i64, 1, 2, 127]).view([2, 2]);
    for ((name, tensor), kind) in tensors[4..].iter().zip(expected_integers) {
        assert_tensor(name, tensor, &integers.to_kind(kind));
    }
    assert_tensor("bool", &tensors[9].1, &Tensor::from_slice(&[false, true, true, false]).view([2, 2]));
}

#[test]
fn parameters_with_and_without_attributes_are_tensors() {
    assert_counted(&read("parameters.pth"), &["plain", "marked"]);
}

#[test]
fn newer_pickle_protocols_and_missing_checksums_are_read() {
    for name in ["protocol_4.pth", "protocol_5.pth", "without_crc32.pth"] {
        assert_counted(&read(name), &["first", "second"]);
    }
}

#[test]
fn a_file_of_a_big_endian_machine_is_read() {
    assert_counted(&read("big_endian.pth"), &["first", "second"]);
}

#[test]
fn the_only_dictionary_of_tensors_is_found() {
    assert_counted(&read("nested_model.pth"), &["first", "second"]);
}

#[test]
fn of_several_dictionaries_one_must_be_named() {
    let error = error("nested_model_ema.pth");
    assert!(error.contains("name the one to read; it holds `model` (1 tensors), `ema` (2 tensors)"), "{error}");
    let open = |key| WeightFile::open_dictionary(fixture("nested_model_ema.pth"), key);
    assert_counted(&open("ema").unwrap().read_all().unwrap(), &["first", "second"]);
    assert_counted(&open("model").unwrap().read_all().unwrap(), &["first"]);
    let error = open("epoch").unwrap_err().to_string();
    assert!(error.contains("no dictionary of tensors `epoch`; it holds `model` (1 tensors), `ema`"), "{error}");
}

#[test]
fn a_class_of_python_is_refused_by_name() {
    let refused = WeightFile::open(fixture("nested_namespace.pth")).unwrap_err();
    assert!(matches!(&refused, WeightsError::ForbiddenGlobal { global, .. } if global == "argparse.Namespace"));
    assert!(refused.to_string().contains("nested_namespace.pth"), "{refused}");
}

#[test]
fn other_formats_of_pytorch_are_named_with_the_mend() {
    let script = error("torchscript.pt");
    assert!(script.contains("TorchScript"), "{script}");
}

#[test]
fn a_file_of_before_pytorch_1_6_is_read() {
    assert_counted(&read("legacy.pth"), &["first"]);
}

/// Bytes of `legacy.pth` with one part replaced by another of the same length, read.
fn read_changed(from: &[u8], to: &[u8]) -> Result<Vec<(String, Tensor)>, WeightsError> {
    let mut bytes = std::fs::read(fixture("legacy.pth")).unwrap();
    let place = bytes.windows(from.len()).position(|part| part == from).unwrap();
    bytes.splice(place..place + from.len(), to.iter().copied());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.pth");
    std::fs::write(&path, bytes).unwrap();
    WeightFile::open(path)?.read_all()
}

#[test]
fn strides_of_an_old_file_are_followed() {
    // BININT1 3, BININT1 1, TUPLE2 are the strides of [2, 3] in row-major order; (1, 2) is the other order, as convolutions
    // that came from TensorFlow have it.
    let tensors = read_changed(b"K\x03K\x01\x86", b"K\x01K\x02\x86").unwrap();
    let expected = counted(0, &[3, 2], Kind::Float).transpose(0, 1);
    assert_tensor("first", &tensors[0].1, &expected);
    assert_eq!(tensors[0].1.stride(), [1, 2]);
}

#[test]
fn an_old_file_that_contradicts_itself_is_an_error() {
    let message = |from: &[u8], to: &[u8]| read_changed(from, to).unwrap_err().to_string();
    let count = [&b"."[..], &6u64.to_le_bytes()].concat();
    let other = message(&count, &[&b"."[..], &5u64.to_le_bytes()].concat());
    assert!(other.contains("expected 6 elements, got 5"), "{other}");
    let longer = message(b"K\x06N", b"K\x07N");
    assert!(longer.contains("is truncated"), "{longer}");
    let shorter = message(b"K\x06N", b"K\x05N");
    assert!(shorter.contains("a view of 5 elements"), "{shorter}");
    // The list of keys stands last.
    let unknown = message(b"]q\x00X\x0e\0\0\x0094212979261792", b"]q\x00X\x0e\0\0\x0094212979261793");
    assert!(unknown.contains("storage 94212979261793: expected a tensor that has it"), "{unknown}");
    let protocol = message(b"M\xe9\x03.", b"M\xe8\x03.");
    assert!(protocol.contains("expected 1001"), "{protocol}");
    let view = message(b"K\x06Nt", b"K\x06)t");
    assert!(view.contains("an identifier of a storage"), "{view}");
}

#[test]
fn tensors_can_be_read_in_any_order_and_twice() {
    let mut file = WeightFile::open(fixture("views.pth")).unwrap();
    let base = counted(0, &[3, 4], Kind::Float);
    for index in [1, 1, 0, 1, 2, 0] {
        let expected = [base.shallow_clone(), base.transpose(0, 1), base.get(1)];
        assert_tensor("view", &file.read(index).unwrap(), &expected[index]);
    }
    assert!(file.read(8).is_err());
}
