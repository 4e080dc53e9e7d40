//! Archives of NumPy arrays, such as the statistics that other programs publish: numbers of any width, as f64.
//!
//! A member is read when it is asked for; the others, which may be gigabytes of images, are left alone.

use std::fs::File;
use std::io::{Read, Take};
use std::path::{Path, PathBuf};

use npyz::{NpyFile, Order, TypeChar};
use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ZipArchive};

use crate::DataError;

/// Most numbers that a member may have: four times those of a covariance of 8,192 features.
const MAX_NUMBERS: u64 = 1 << 28;
/// Bytes of a header, and of a number at most.
const HEADER: u64 = 1 << 16;
const NUMBER: u64 = 8;

/// An archive of `np.savez` or `np.savez_compressed`.
#[derive(Debug)]
pub struct Npz {
    path: PathBuf,
    names: Vec<String>,
}

/// An array in rows after rows.
#[derive(Clone, Debug, PartialEq)]
pub struct NpzArray {
    /// Sizes, outermost first.
    pub shape: Vec<u64>,
    /// The numbers.
    pub values: Vec<f64>,
}

impl Npz {
    /// Lists the arrays of an archive.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`]; [`DataError::BrokenRecord`] for what is no such archive, or is cut off.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let mut npz = Self { path: path.to_owned(), names: Vec::new() };
        let mut names = Vec::new();
        npz.each(|name, _| {
            names.push(name.to_owned());
            Ok(None::<()>)
        })?;
        npz.names = names;
        Ok(npz)
    }

    /// Names of the arrays, in the order of the archive.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The array of this name; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`DataError::Io`]; [`DataError::BrokenRecord`] for a damaged member, Python objects, and what is no real number.
    pub fn array(&self, name: &str) -> Result<Option<NpzArray>, DataError> {
        if !self.names.iter().any(|known| known == name) {
            return Ok(None);
        }
        self.each(|found, member| if found == name { array(member).map(Some) } else { Ok(None) })
    }

    fn broken(&self, reason: String) -> DataError {
        DataError::BrokenRecord { path: self.path.clone(), reason }
    }

    /// Shows every array to `look` until it returns something.
    fn each<T>(
        &self,
        mut look: impl FnMut(&str, &mut dyn Read) -> Result<Option<T>, String>,
    ) -> Result<Option<T>, DataError> {
        let file = File::open(&self.path).map_err(|error| DataError::Io {
            path: self.path.clone(),
            doing: "opening",
            error,
            mend: "check the path",
        })?;
        let damaged = |error: rawzip::Error| self.broken(format!("it is no whole .npz archive ({error})"));
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let archive = ZipArchive::from_file(file, &mut buffer).map_err(damaged)?;
        let mut members = Vec::new();
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(damaged)? {
            let name = String::from_utf8_lossy(entry.file_path().as_ref()).into_owned();
            members.push((name, entry.compression_method(), entry.wayfinder()));
        }
        for (name, compression, wayfinder) in members {
            let Some(name) = name.strip_suffix(".npy") else { continue };
            let entry = archive.get_entry(wayfinder).map_err(damaged)?;
            let found = match compression {
                CompressionMethod::STORE => look(name, &mut entry.verifying_reader(entry.reader())),
                CompressionMethod::DEFLATE => {
                    let inflated = flate2::read::DeflateDecoder::new(entry.reader());
                    look(name, &mut entry.verifying_reader(inflated))
                }
                _ => Err("it is packed in an unknown way".to_owned()),
            };
            if let Some(found) = found.map_err(|reason| self.broken(format!("its array `{name}`: {reason}")))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn array(member: &mut dyn Read) -> Result<NpzArray, String> {
    let limited: Take<&mut dyn Read> = member.take(HEADER + NUMBER * MAX_NUMBERS);
    let file = NpyFile::new(limited).map_err(|error| format!("it is no NumPy array ({error})"))?;
    let kind = match file.dtype() {
        npyz::DType::Plain(kind) => kind,
        other => return Err(format!("it holds {}, expected numbers", other.descr())),
    };
    let shape = file.shape().to_vec();
    if file.len() > MAX_NUMBERS {
        return Err(format!("it has the shape {shape:?}, expected at most {MAX_NUMBERS} numbers"));
    }
    // A matrix that is its own transpose may lie in either order; statistics are such.
    if file.order() != Order::C && shape.len() > 1 && shape.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err("its columns lie one after the other, expected rows".to_owned());
    }
    let failed = |error: std::io::Error| format!("it is damaged ({error})");
    let values = match (kind.type_char(), kind.size_field()) {
        (TypeChar::Float, 8) => file.into_vec::<f64>().map_err(failed)?,
        (TypeChar::Float, 4) => file.into_vec::<f32>().map_err(failed)?.into_iter().map(f64::from).collect(),
        (TypeChar::Int, 8) => file.into_vec::<i64>().map_err(failed)?.into_iter().map(|value| value as f64).collect(),
        (TypeChar::Object, _) => return Err("it holds Python objects, which only Python reads".to_owned()),
        _ => return Err(format!("it holds {kind}, expected floats")),
    };
    Ok(NpzArray { shape, values })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use npyz::WriterBuilder;

    use super::*;

    fn npy<T: npyz::AutoSerialize + Copy>(shape: &[u64], values: &[T]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = npyz::WriteOptions::new().default_dtype().shape(shape).writer(&mut bytes).begin_nd().unwrap();
        writer.extend(values.iter().copied()).unwrap();
        writer.finish().unwrap();
        bytes
    }

    fn archive(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut archive = rawzip::ZipArchiveWriter::new(&mut bytes);
        for (index, (name, member)) in members.iter().enumerate() {
            let packed = index % 2 == 1;
            let method = if packed { CompressionMethod::DEFLATE } else { CompressionMethod::STORE };
            let (mut entry, config) = archive.new_file(name).compression_method(method).start().unwrap();
            if packed {
                let mut writer =
                    config.wrap(flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::default()));
                std::io::copy(&mut &member[..], &mut writer).unwrap();
                let (encoder, descriptor) = writer.finish().unwrap();
                encoder.finish().unwrap();
                entry.finish(descriptor).unwrap();
            } else {
                let mut writer = config.wrap(&mut entry);
                std::io::copy(&mut &member[..], &mut writer).unwrap();
                let (_, descriptor) = writer.finish().unwrap();
                entry.finish(descriptor).unwrap();
            }
        }
        archive.finish().unwrap();
        bytes
    }

    #[test]
    fn arrays_are_read_by_name_whatever_their_width() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let members = [
            ("mu.npy", npy(&[3], &[1.5_f64, -2.0, 1e300])),
            ("sigma.npy", npy(&[2, 2], &[1.0_f32, 0.5, 0.5, 2.0])),
            ("arr_0.npy", npy(&[2], &[1_u8, 2])),
            ("readme.txt", b"no array".to_vec()),
        ];
        let bytes = archive(&members);
        fs::write(&path, &bytes).unwrap();
        let npz = Npz::open(&path).unwrap();
        assert_eq!(npz.names(), ["mu", "sigma", "arr_0"]);
        assert_eq!(npz.array("mu").unwrap(), Some(NpzArray { shape: vec![3], values: vec![1.5, -2.0, 1e300] }));
        let sigma = npz.array("sigma").unwrap().unwrap();
        assert_eq!((sigma.shape, sigma.values), (vec![2, 2], vec![1.0, 0.5, 0.5, 2.0]));
        assert_eq!(npz.array("mu_s").unwrap(), None);
        let error = npz.array("arr_0").unwrap_err().to_string();
        assert!(error.contains("a.npz") && error.contains("`arr_0`") && error.contains("expected floats"), "{error}");

        fs::write(&path, &bytes[..bytes.len() - 30]).unwrap();
        assert!(Npz::open(&path).unwrap_err().to_string().contains("no whole .npz archive"));
        // A number changed: the checksum tells.
        let place = bytes.windows(8).position(|window| window == 1.5_f64.to_le_bytes()).unwrap();
        let mut changed = bytes;
        changed[place] ^= 1;
        fs::write(&path, &changed).unwrap();
        let error = Npz::open(&path).unwrap().array("mu").unwrap_err().to_string();
        assert!(error.contains("damaged"), "{error}");
    }
}
