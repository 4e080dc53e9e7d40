//! Files as NumPy writes them, in miniature.

#![allow(clippy::unwrap_used)]

use std::io::Write;

use npyz::WriterBuilder;

use super::*;

/// What `np.save` writes of moments whose values begin at `start`.
fn moments(start: f32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let values = (0..4 * 9).map(|place| start + place as f32);
    npyz::WriteOptions::new()
        .default_dtype()
        .shape(&[4, 3, 3])
        .writer(&mut bytes)
        .begin_nd()
        .and_then(|mut writer| writer.extend(values).and_then(|()| writer.finish()))
        .unwrap();
    bytes
}

/// What NumPy writes of a scalar.
fn scalar(label: i64) -> Vec<u8> {
    let text = "{'descr': '<i8', 'fortran_order': False, 'shape': (), }";
    let header = format!("{text:<117}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &label.to_le_bytes()].concat()
}

/// What `np.savez`, or `np.savez_compressed`, writes.
fn npz(members: &[(&str, &[u8])], compressed: bool) -> Vec<u8> {
    let mut output = Vec::new();
    let mut archive = rawzip::ZipArchiveWriter::new(&mut output);
    for (name, bytes) in members {
        let method = if compressed { CompressionMethod::DEFLATE } else { CompressionMethod::STORE };
        let (mut entry, config) = archive.new_file(*name).compression_method(method).start().unwrap();
        let descriptor = if compressed {
            let mut writer = config.wrap(flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::fast()));
            writer.write_all(bytes).unwrap();
            let (encoder, descriptor) = writer.finish().unwrap();
            encoder.finish().unwrap();
            descriptor
        } else {
            let mut writer = config.wrap(&mut entry);
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap().1
        };
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    output
}

fn open(folder: &tempfile::TempDir, classes: usize) -> Result<Features, DataError> {
    Features::open(&FeaturesConfig { path: folder.path().to_owned(), classes })
}

fn load(features: &Features, index: usize) -> Result<(f32, usize), DataError> {
    let mut out = vec![f32::NAN; 36];
    let class = features.write(index, 3, false, &mut out)?;
    let start = out[0];
    // The second half are logarithms of variances, which have bounds.
    let expected = |place: usize| if place < 18 { start + place as f32 } else { (start + place as f32).min(20.0) };
    assert!(out.iter().enumerate().all(|(place, value)| *value == expected(place)));
    Ok((start, class))
}

fn put(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn archives_are_read_by_number_packed_or_not() {
    let folder = tempfile::tempdir().unwrap();
    for number in [0, 2, 10] {
        let members = [("z.npy", &*moments(number as f32)), ("label.npy", &scalar(number / 2))];
        put(&folder, &format!("{number}.npy.npz"), &npz(&members, number == 2));
    }
    let features = open(&folder, 6).unwrap();
    assert_eq!((features.len(), features.channels(), features.latent_size(), features.classes().len()), (3, 4, 3, 6));
    let found: Vec<_> = (0..3).map(|index| load(&features, index).unwrap()).collect();
    assert_eq!(found, [(0.0, 0), (2.0, 1), (10.0, 5)]);
    assert!(features.notes()[0].contains("go to 10, but 8 of the files are missing"), "{:?}", features.notes());
    assert!(!features.can_mirror() && features.write(0, 3, true, &mut [0.0; 36]).is_err());
    let error = load(&open(&folder, 5).unwrap(), 2).unwrap_err().to_string();
    assert!(error.contains("10.npy.npz: cannot be read: its label is 5, expected from 0 to 4"), "{error}");
}

#[test]
fn arrays_have_their_class_in_their_name() {
    let folder = tempfile::tempdir().unwrap();
    put(&folder, "b/n02_7.npy", &moments(7.0));
    put(&folder, "a/n05_1.npy", &moments(1.0));
    put(&folder, "a/n02_3.npy", &moments(3.0));
    let features = open(&folder, 1000).unwrap();
    assert_eq!(features.classes(), ["n02", "n05"]);
    let found: Vec<_> = (0..3).map(|index| load(&features, index).unwrap()).collect();
    assert_eq!(found, [(3.0, 0), (1.0, 1), (7.0, 0)]);

    let folder = tempfile::tempdir().unwrap();
    [9, 10].iter().for_each(|number| put(&folder, &format!("{number}.npy"), &moments(*number as f32)));
    let features = open(&folder, 1000).unwrap();
    assert_eq!((features.classes().len(), load(&features, 1).unwrap()), (1, (10.0, 0)));
}

#[test]
fn what_is_no_moments_is_told_by_file() {
    let failure = |name: &str, bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        put(&folder, name, bytes);
        open(&folder, 10).unwrap_err().to_string()
    };
    let objects = String::from_utf8_lossy(&scalar(0)).replace("'<i8'", "'|O' ").into_bytes();
    let header = scalar(0)[..10].to_vec();
    let pickled = [&header, &objects[objects.len() - 126..]].concat();
    let error = failure("0.npy", &pickled);
    assert!(error.contains("0.npy: cannot be read: it holds Python objects"), "{error}");
    assert!(failure("0.npy", &scalar(1)).contains("it has the shape [], expected [channel, row, column]"));
    assert!(failure("0.npy", b"text").contains("0.npy: cannot be read: it is no NumPy file"));
    assert!(failure("0.npz", &npz(&[("z.npy", &moments(0.0))], false)).contains("it has no `label.npy`"));
    assert!(failure("0.txt", b"x").contains("only "));
    assert!(failure("0.npz", b"PK").contains("no whole .npz archive"));
    let negative = npz(&[("z.npy", &moments(0.0)), ("label.npy", &scalar(-1))], false);
    assert!(failure("0.npz", &negative).contains("its label is -1"));

    let folder = tempfile::tempdir().unwrap();
    put(&folder, "0.npy", &moments(0.0));
    put(&folder, "0.npz", b"");
    assert!(open(&folder, 10).unwrap_err().to_string().contains("expected files of one kind, found 1 .npz and 1 .npy"));
}

#[test]
fn every_truncation_and_changed_byte_of_an_archive_is_an_error_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    for compressed in [false, true] {
        let bytes = npz(&[("z.npy", &moments(5.0)), ("label.npy", &scalar(3))], compressed);
        for length in (0..bytes.len()).step_by(3) {
            put(&folder, "0.npz", &bytes[..length]);
            let error = open(&folder, 10).unwrap_err().to_string();
            assert!(error.contains("0.npz"), "{length}: {error}");
        }
        for place in (0..bytes.len()).step_by(2) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            put(&folder, "0.npz", &damaged);
            if let Ok(features) = open(&folder, 10) {
                assert_eq!(load(&features, 0).unwrap(), (5.0, 3), "byte {place}");
            }
        }
    }
}
