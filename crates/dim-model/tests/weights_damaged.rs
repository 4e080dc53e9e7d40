//! Damaged files of both formats: an error or valid tensors, never a panic.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, fs, io::Write, path::Path, sync::LazyLock};

use dim_model::weights::{self, NameTable, Naming, WeightFile};
use proptest::prelude::*;
use tch::Tensor;

/// PyTorch files with checksums, without, with nested dictionaries, and of before PyTorch 1.6.
const FIXTURES: [&str; 7] = [
    "views.pth",
    "dtypes.pth",
    "parameters.pth",
    "protocol_5.pth",
    "nested_model.pth",
    "without_crc32.pth",
    "legacy.pth",
];

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

fn safetensors() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let tensors = [
        ("label_emb.weight".to_owned(), Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0]).view([2, 2])),
        ("flags".to_owned(), Tensor::from_slice(&[true, false, true])),
        ("empty".to_owned(), Tensor::from_slice(&[0i64; 0])),
    ];
    let metadata = BTreeMap::from([("steps".to_owned(), "7".to_owned())]);
    weights::save(&path, tensors, Naming::Ours, &metadata).unwrap();
    fs::read(path).unwrap()
}

/// The tensors as text, if the bytes are a file of weights; every element of every tensor is touched.
fn read(bytes: &[u8]) -> Option<String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let _ = weights::load(file.path(), NameTable::Dim);
    let tensors = WeightFile::open(file.path()).ok()?.read_all().ok()?;
    let describe = |(name, tensor): &(String, Tensor)| {
        // A view may repeat one element without end (stride 0); such a one is not unfolded.
        let content = if tensor.numel() <= bytes.len() { tensor.to_string(80).unwrap() } else { String::new() };
        format!("{name} {:?} {:?} {content}", tensor.kind(), tensor.size())
    };
    Some(tensors.iter().map(describe).collect())
}

#[test]
fn every_truncation_is_an_error() {
    for whole in FIXTURES.iter().map(|name| fixture(name)).chain([safetensors()]) {
        assert!(read(&whole).is_some());
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_none(), "{length} of {} bytes", whole.len());
        }
    }
}

#[test]
fn checksums_catch_every_flipped_bit_that_matters() {
    for name in ["views.pth", "dtypes.pth", "nested_model.pth"] {
        let mut bytes = fixture(name);
        let original = read(&bytes).unwrap();
        for place in 0..bytes.len() {
            for bit in [1, 0x80] {
                bytes[place] ^= bit;
                if let Some(read) = read(&bytes) {
                    assert_eq!(read, original, "{name}: bit {bit:#x} of byte {place}");
                }
                bytes[place] ^= bit;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_damage_makes_the_readers_panic(
        file in 0..=FIXTURES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        static FILES: LazyLock<Vec<Vec<u8>>> =
            LazyLock::new(|| FIXTURES.iter().map(|name| fixture(name)).chain([safetensors()]).collect());
        let mut bytes = FILES[file].clone();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read(&bytes);
    }
}
