#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

use super::{Metadata, read, write};
use crate::error::TrainerError;

fn tensors(shapes: &[Vec<i64>]) -> Vec<(String, Tensor)> {
    let ramp = |shape: &Vec<i64>| {
        Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)).reshape(shape.as_slice()) * 0.37 - 1.0
    };
    shapes.iter().enumerate().map(|(index, shape)| (format!("tensor.{}", shapes.len() - index), ramp(shape))).collect()
}

fn metadata() -> Metadata {
    BTreeMap::from([("version".to_owned(), "1".to_owned()), ("note".to_owned(), "ünïcode \"quoted\"".to_owned())])
}

fn written(folder: &Path, shapes: &[Vec<i64>]) -> PathBuf {
    let path = folder.join("file");
    write(&path, metadata(), &tensors(shapes)).unwrap();
    path
}

fn read_all(path: &Path) -> Result<(Metadata, BTreeMap<String, Tensor>), TrainerError> {
    let mut found = BTreeMap::new();
    let metadata = read(
        path,
        |_| Ok(()),
        |name, shape| {
            let tensor = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
            found.insert(name.to_owned(), tensor.shallow_clone());
            Ok(Some(tensor))
        },
    )?;
    Ok((metadata, found))
}

#[test]
fn other_readers_see_ordinary_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(written(folder.path(), &[vec![2, 3], vec![5]])).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.names().len(), 3);
    assert_eq!(file.tensor("tensor.2").unwrap().shape(), [2, 3]);
    assert_eq!(file.tensor("tensor.1").unwrap().data()[4..8], (-1.0_f32 + 0.37).to_le_bytes());
}

#[test]
fn metadata_is_checked_before_the_payload() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), &[vec![100]]);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    let error = read(&path, |_| Err(TrainerError::Unsupported("seen first".into())), |_, _| Ok(None)).unwrap_err();
    assert_eq!(error.to_string(), "seen first");
}

#[test]
fn garbage_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    for garbage in [&b""[..], b"abc", b"not a checkpoint at all, just text", &[0; 64], b"\x02\0\0\0\0\0\0\0{}"] {
        fs::write(&path, garbage).unwrap();
        let error = read_all(&path).unwrap_err();
        assert!(matches!(error, TrainerError::NotACheckpoint { .. }), "{garbage:?}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_is_read_back(shapes in prop::collection::vec(prop::collection::vec(0_i64..6, 0..4), 0..6)) {
        let folder = tempfile::tempdir().unwrap();
        let (metadata_read, found) = read_all(&written(folder.path(), &shapes)).unwrap();
        prop_assert_eq!(metadata_read, metadata());
        prop_assert_eq!(found.len(), shapes.len());
        for (name, tensor) in tensors(&shapes) {
            prop_assert_eq!(found[&name].size(), tensor.size());
            prop_assert!(found[&name].equal(&tensor));
        }
    }

    #[test]
    fn every_truncation_is_noticed(keep in 0.0_f64..1.0) {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), &[vec![3, 5], vec![7]]);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..(bytes.len() as f64 * keep) as usize]).unwrap();
        let error = read_all(&path).unwrap_err();
        prop_assert!(matches!(error, TrainerError::Truncated { .. } | TrainerError::NotACheckpoint { .. }), "{}", error);
    }

    #[test]
    fn every_flipped_bit_is_noticed(place in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), &[vec![3, 5], vec![7]]);
        let mut bytes = fs::read(&path).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= 1_u8 << bit;
        fs::write(&path, &bytes).unwrap();
        prop_assert!(read_all(&path).is_err());
    }
}
