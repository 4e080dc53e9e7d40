//! Encodings of made-up moments: what is written is read back, and every damage is noticed.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use safetensors::SafeTensors;

use super::*;
use crate::{BrokenFile, Loader, LoaderConfig, Order, Source};

fn encoding(images: usize, images_per_shard: usize) -> Encoding {
    let (format, version) = Encoding::format();
    Encoding {
        format,
        version,
        data: serde_json::json!({"source": "folder", "path": "there"}),
        images,
        classes: vec!["a".into(), "b".into()],
        image_size: 6,
        autoencoder: serde_json::json!({"channels": 32}),
        scaling_factor: 0.18215,
        latent_channels: 2,
        latent_size: 3,
        element: Element::F32,
        mirrored: true,
        images_per_shard,
    }
}

/// Moments of image `index` that are told apart from all others, and from those of its mirror image.
fn moments(encoding: &Encoding, index: usize, mirrored: bool) -> Vec<f32> {
    let start = (2 * index + usize::from(mirrored)) as f32;
    (0..encoding.record_len()).map(|place| start * 0.37 - place as f32 * 0.01).collect()
}

/// Fills the shards that are missing, up to `limit` of them; images whose number is in `broken` are skipped.
fn fill(folder: &mut LatentFolder, limit: usize, broken: &[usize]) {
    let encoding = folder.encoding().clone();
    let missing: Vec<usize> = folder.missing().take(limit).collect();
    for number in missing {
        let mut shard = folder.begin(number);
        for index in encoding.images_of(number) {
            if broken.contains(&index) {
                shard.skip(&BrokenFile { index, name: format!("image {index}"), reason: "made so".into() });
                continue;
            }
            let records: Vec<Vec<f32>> =
                (0..encoding.records_per_image()).map(|record| moments(&encoding, index, record == 1)).collect();
            shard.push(index % 2, &records.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        }
        folder.save(&shard).unwrap();
    }
}

fn made(path: &Path, encoding: &Encoding, broken: &[usize]) -> Index {
    let mut folder = LatentFolder::open(path, encoding.clone()).unwrap();
    fill(&mut folder, usize::MAX, broken);
    folder.finish().unwrap()
}

fn open(path: &Path) -> Result<Latents, crate::DataError> {
    Latents::open(&LatentsConfig { path: path.to_owned() })
}

fn files(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn moments_come_back_in_their_order_without_the_broken_ones() {
    let folder = tempfile::tempdir().unwrap();
    let encoding = encoding(8, 3);
    // All of shard 0 is broken, and one of shard 2.
    let broken = [0, 1, 2, 7];
    let index = made(folder.path(), &encoding, &broken);
    assert_eq!((index.images, index.skipped, index.shards.len()), (4, 4, 3));
    let latents = open(folder.path()).unwrap();
    assert_eq!((latents.len(), latents.channels(), latents.classes().len()), (4, 4, 2));
    assert_eq!(latents.notes().len(), 1);
    let mut out = vec![f32::NAN; encoding.record_len()];
    for (place, index) in [3, 4, 5, 6].into_iter().enumerate() {
        for mirrored in [false, true] {
            assert_eq!(latents.write(place, 3, mirrored, &mut out).unwrap(), index % 2);
            assert_eq!(out, moments(&encoding, index, mirrored));
        }
    }
    assert!(latents.name(3).ends_with("000002.safetensors, row 0"), "{}", latents.name(3));
    assert!(latents.write(4, 3, false, &mut out).is_err());
    assert!(latents.write(0, 4, false, &mut out).is_err());
    assert!(latents.write(0, 3, false, &mut out[1..]).is_err());
}

#[test]
fn a_shard_is_an_ordinary_safetensors_file() {
    let folder = tempfile::tempdir().unwrap();
    let encoding = Encoding { element: Element::F16, ..encoding(3, 8) };
    made(folder.path(), &encoding, &[]);
    let bytes = fs::read(folder.path().join("000000.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("moments").unwrap().shape(), [3, 4, 3, 3]);
    assert_eq!(file.tensor("mirrored").unwrap().dtype(), safetensors::Dtype::F16);
    let labels: Vec<u8> = [0_i64, 1, 0].iter().flat_map(|label| label.to_le_bytes()).collect();
    assert_eq!(file.tensor("labels").unwrap().data(), labels);
    let record = &file.tensor("moments").unwrap().data()[..encoding.record_bytes()];
    let checksum = u64::from(crc32c::crc32c(record)).to_le_bytes();
    assert_eq!(file.tensor("checksums").unwrap().data()[..8], checksum);
}

#[test]
fn half_precision_rounds_to_nearest_and_refuses_what_it_cannot_hold() {
    for (element, step) in [(Element::F16, 2.0_f32.powi(-11)), (Element::Bf16, 2.0_f32.powi(-8))] {
        let folder = tempfile::tempdir().unwrap();
        let encoding = Encoding { element, ..encoding(5, 8) };
        made(folder.path(), &encoding, &[]);
        let latents = open(folder.path()).unwrap();
        let mut out = vec![0.0; encoding.record_len()];
        latents.write(4, 3, true, &mut out).unwrap();
        for (stored, exact) in out.iter().zip(moments(&encoding, 4, true)) {
            assert!((stored - exact).abs() <= step * exact.abs(), "{element:?}: {stored} for {exact}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let encoding = Encoding { element: Element::F16, mirrored: false, ..encoding(1, 1) };
    let mut shard = LatentFolder::open(folder.path(), encoding.clone()).unwrap().begin(0);
    let huge = vec![1e5_f32; encoding.record_len()];
    let error = shard.push(0, &[&huge]).unwrap_err().to_string();
    assert!(error.contains("finite") && error.contains("100000 stored as inf"), "{error}");
}

#[test]
fn statistics_are_those_of_latents_drawn_from_the_moments() {
    let folder = tempfile::tempdir().unwrap();
    let encoding = Encoding { latent_size: 1, mirrored: false, ..encoding(2, 1) };
    let mut latents = LatentFolder::open(folder.path(), encoding.clone()).unwrap();
    // Channel 0: means 1 and 3, variances 1 and 4. Channel 1: means -2 and -2, variances 9 and 9.
    for (number, moments) in [[1.0, -2.0, 0.0, 9_f32.ln()], [3.0, -2.0, 4_f32.ln(), 9_f32.ln()]].iter().enumerate() {
        let mut shard = latents.begin(number);
        shard.push(0, &[moments]).unwrap();
        latents.save(&shard).unwrap();
    }
    let statistics = latents.finish().unwrap().statistics;
    assert_eq!(statistics.mean, [2.0, -2.0]);
    assert_eq!(statistics.std_of_means, [1.0, 0.0]);
    let expected = [3.5_f64.sqrt(), 3.0];
    assert!(statistics.std.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6));
}

#[test]
fn an_encoding_that_was_stopped_ends_with_the_same_bytes() {
    let encoding = encoding(10, 3);
    let whole = tempfile::tempdir().unwrap();
    made(whole.path(), &encoding, &[4]);
    let stopped = tempfile::tempdir().unwrap();
    for shards in [0, 1, 2] {
        let mut folder = LatentFolder::open(stopped.path(), encoding.clone()).unwrap();
        assert!(!folder.is_finished());
        fill(&mut folder, shards, &[4]);
        assert!(folder.finish().is_err() || shards == 2);
        // What a kill in the middle of a write leaves behind.
        fs::write(stopped.path().join(".000003.safetensors.17-0.tmp"), b"half").unwrap();
    }
    let mut elsewhere = encoding.clone();
    elsewhere.data["path"] = "moved".into();
    let mut folder = LatentFolder::open(stopped.path(), elsewhere).unwrap();
    fill(&mut folder, usize::MAX, &[4]);
    folder.finish().unwrap();
    assert!(folder.is_finished());
    assert_eq!(folder.skipped().unwrap(), 1);
    assert!(files(stopped.path()) == files(whole.path()), "the files differ");
}

#[test]
fn another_encoding_and_a_folder_of_other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), &encoding(4, 2), &[]);
    let before = files(folder.path());
    let other = Encoding { image_size: 12, scaling_factor: 0.5, ..encoding(4, 2) };
    let error = LatentFolder::open(folder.path(), other).unwrap_err().to_string();
    assert!(
        error.contains("`image_size`: there 6, here 12") && error.contains("`scaling_factor`: there 0.18215"),
        "{error}"
    );
    let mut data = encoding(4, 2);
    data.data["source"] = "cifar10".into();
    let error = LatentFolder::open(folder.path(), data).unwrap_err().to_string();
    assert!(error.contains("`data`"), "{error}");
    assert!(files(folder.path()) == before);

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), b"all of it").unwrap();
    let error = LatentFolder::open(folder.path(), encoding(4, 2)).unwrap_err().to_string();
    assert!(error.contains("expected an empty folder to encode into, found thesis.txt"), "{error}");
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn an_encoding_that_is_not_finished_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let mut latents = LatentFolder::open(folder.path(), encoding(4, 2)).unwrap();
    fill(&mut latents, 1, &[]);
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("expected a finished encoding, found an encoding that is not finished"), "{error}");
    let report = check(folder.path(), |_, _| ()).unwrap();
    assert_eq!((report.shards, report.missing, report.finished, report.problems.len()), (1, 1, false, 0));
    let error = open(tempfile::tempdir().unwrap().path()).unwrap_err().to_string();
    assert!(error.contains("found no index.json"), "{error}");
    assert!(matches!(open(Path::new("/nowhere")), Err(crate::DataError::MissingFolder { .. })));
}

/// Whatever byte changes, the check finds it; a reader refuses to open, or refuses the image.
#[test]
fn every_changed_byte_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let encoding = Encoding { latent_size: 1, ..encoding(3, 2) };
    made(folder.path(), &encoding, &[]);
    assert_eq!(check(folder.path(), |_, _| ()).unwrap().problems, Vec::<String>::new());
    for (name, bytes) in files(folder.path()) {
        let path = folder.path().join(&name);
        for place in (0..bytes.len()).step_by(3) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 4;
            fs::write(&path, &damaged).unwrap();
            let problems = check(folder.path(), |_, _| ()).map(|report| report.problems);
            let noticed = problems.as_ref().map_or(true, |problems| !problems.is_empty());
            assert!(noticed, "{name}, byte {place}: {problems:?}");
            if name.ends_with(".safetensors") {
                let mut out = vec![0.0; encoding.record_len()];
                let result = open(folder.path()).and_then(|latents| {
                    (0..3).try_for_each(|index| {
                        [false, true].into_iter().try_for_each(|m| latents.write(index, 1, m, &mut out).map(drop))
                    })
                });
                assert!(result.unwrap_err().to_string().contains(&name));
            }
        }
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn every_truncation_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), &encoding(2, 2), &[]);
    let path = folder.path().join("000000.safetensors");
    let bytes = fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(5) {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("000000.safetensors"), "{length}: {error}");
        assert!(LatentFolder::open(folder.path(), encoding(2, 2)).is_err());
        assert_eq!(check(folder.path(), |_, _| ()).unwrap().problems.len(), 1);
    }
}

#[test]
fn a_damaged_record_is_a_broken_file_to_the_loader() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), &encoding(4, 4), &[]);
    let path = folder.path().join("000000.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1; // in the last row of `moments`
    fs::write(&path, &bytes).unwrap();
    let load = |max_broken_files| {
        let source: Arc<dyn Source> = Arc::new(open(folder.path()).unwrap());
        let config = LoaderConfig { batch_size: 4, size: 3, max_broken_files, ..LoaderConfig::default() };
        Loader::over(source, Order::sequential(4).unwrap(), config).unwrap().next().unwrap()
    };
    let error = load(0).unwrap_err().to_string();
    assert!(error.contains("000000.safetensors, row 3: cannot be read: its checksum is"), "{error}");
    let batch = load(1).unwrap();
    assert_eq!((batch.classes.as_slice(), batch.channels, batch.broken.len()), (&[0, 1, 0, 0][..], 4, 1));
}

#[test]
fn flips_without_mirror_images_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), &Encoding { mirrored: false, ..encoding(4, 4) }, &[]);
    let source: Arc<dyn Source> = Arc::new(open(folder.path()).unwrap());
    let config = LoaderConfig { size: 3, flip_seed: Some(1), ..LoaderConfig::default() };
    let error = Loader::over(source, Order::sequential(4).unwrap(), config).err().unwrap().to_string();
    assert!(error.contains("random flips must be off for data that hold no mirror images"), "{error}");
}

#[test]
fn a_shard_takes_what_belongs_to_it_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let encoding = Encoding { mirrored: false, ..encoding(3, 2) };
    let mut latents = LatentFolder::open(folder.path(), encoding.clone()).unwrap();
    let values = moments(&encoding, 0, false);
    let mut shard = latents.begin(1);
    assert!(latents.save(&shard).unwrap_err().to_string().contains("1 of its images are missing"));
    assert!(shard.push(2, &[&values]).is_err(), "a class that there is none of");
    assert!(shard.push(0, &[&values, &values]).is_err(), "a mirror image");
    assert!(shard.push(0, &[&values[1..]]).is_err(), "too few values");
    shard.push(0, &[&values]).unwrap();
    assert!(shard.push(0, &[&values]).is_err(), "one image too many");
    latents.save(&shard).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_image_is_in_one_shard(images in 1_usize..500, images_per_shard in 1_usize..100) {
        let encoding = encoding(images, images_per_shard);
        let all: Vec<usize> = (0..encoding.shards()).flat_map(|shard| encoding.images_of(shard)).collect();
        prop_assert!(all.into_iter().eq(0..images));
    }
}
