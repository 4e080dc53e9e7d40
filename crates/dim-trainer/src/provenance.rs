//! What a picture was drawn with: all that it takes to draw it again, kept in the PNG itself.
//!
//! A PNG of ours has two texts (`iTXt`): `Software`, which many viewers show, and [`KEYWORD`], a JSON object.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use dim_diffusion::Prediction;
use dim_diffusion::sampler::Sampler;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::config::Schedule;
use crate::error::TrainerError;
use crate::png_file::Texts;

/// The keyword under which a PNG of ours says how it was drawn.
pub(crate) const KEYWORD: &str = "dim-sample";

/// Keys that say where something was, not what: they may differ between images that are the same.
const PLACES: [&str; 2] = ["weights.file", "autoencoder.file"];

/// What all images of a command have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Drawing {
    /// Name and version of the program.
    pub(crate) program: String,
    pub(crate) weights: FileIdentity,
    /// Which weights of a checkpoint: `ema` or `parameters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) autoencoder: Option<Decoder>,
    /// Image `index` is a function of this, of its index and class, and of all that stands here.
    pub(crate) seed: u64,
    /// Rows and columns of the picture in pixels, before `enlarge`.
    pub(crate) size: [usize; 2],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upsample: Option<usize>,
    pub(crate) enlarge: u8,
    pub(crate) sampler: Sampler,
    pub(crate) schedule: Schedule,
    pub(crate) time_shift: f64,
    pub(crate) prediction: Prediction,
    pub(crate) cfg_scale: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) guidance_interval: Option<[f64; 2]>,
    pub(crate) guidance_rescale: f64,
    /// `cpu` or `cuda`: bits agree on one kind of device, not between two.
    pub(crate) device: String,
    /// `f32` or `bf16`.
    pub(crate) precision: String,
}

/// A file by its name and its contents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileIdentity {
    /// The last part of its path.
    pub(crate) file: String,
    /// SHA-256 of its bytes, in hexadecimal digits: what `sha256sum` says.
    pub(crate) sha256: String,
}

/// What turned latents into pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Decoder {
    #[serde(flatten)]
    pub(crate) file: FileIdentity,
    pub(crate) scaling_factor: f64,
    /// Images with a longer side were decoded in tiles.
    pub(crate) tile_above: usize,
}

/// What one image of a command is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Of {
    /// Its number in the command, from 0.
    pub(crate) index: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) class: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) class_name: Option<String>,
}

impl FileIdentity {
    /// Reads the whole file.
    ///
    /// # Errors
    /// [`TrainerError::Read`].
    pub(crate) fn of(path: &Path) -> Result<Self, TrainerError> {
        let failed = |source| TrainerError::read(path, source);
        let mut digest = Sha256::new();
        let mut file = File::open(path).map_err(failed)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                length => digest.update(&buffer[..length]),
            }
        }
        let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(), sha256 })
    }
}

impl Drawing {
    /// Name and version of this program.
    pub(crate) fn program() -> String {
        format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
    }

    /// The texts of a PNG of one image.
    pub(crate) fn texts_of(&self, image: &Of) -> Texts {
        self.texts(&self.with(&[serde_json::json!(image)]))
    }

    /// The texts of a PNG that shows several images in so many columns.
    pub(crate) fn texts_of_grid(&self, classes: Option<&[i64]>, count: usize, columns: usize) -> Texts {
        self.texts(&self.with(&[serde_json::json!({"count": count, "columns": columns, "classes": classes})]))
    }

    /// One line for each parameter in which an image, of which `texts` tell, differs from `image`; `None` if they do not tell.
    pub(crate) fn differences(&self, image: &Of, texts: &Texts) -> Option<Vec<String>> {
        let there: Value = serde_json::from_str(texts.get(KEYWORD)?).ok()?;
        // As text and back, so that numbers went the same way on both sides.
        let here: Value = serde_json::from_str(&self.with(&[serde_json::json!(image)]).to_string()).ok()?;
        let (there, here) = (flattened(&there), flattened(&here));
        let value = |values: &[(String, String)], key: &str| {
            values.iter().find(|(known, _)| known == key).map_or("none".to_owned(), |(_, value)| value.clone())
        };
        let mut keys: Vec<&String> = there.iter().chain(&here).map(|(key, _)| key).collect();
        keys.sort();
        keys.dedup();
        let differs = keys.into_iter().filter(|key| !PLACES.contains(&key.as_str()));
        let line = |key: &String| {
            let (there, here) = (value(&there, key), value(&here, key));
            (there != here).then(|| format!("`{key}`: there {there}, here {here}"))
        };
        Some(differs.filter_map(line).collect())
    }

    /// This as one JSON object with the keys of others.
    pub(crate) fn with(&self, others: &[Value]) -> Value {
        let mut all = serde_json::json!(self);
        if let Value::Object(all) = &mut all {
            let more = others.iter().filter_map(Value::as_object).flatten();
            all.extend(more.map(|(key, value)| (key.clone(), value.clone())));
        }
        all
    }

    fn texts(&self, value: &Value) -> Texts {
        Texts::from([("Software".to_owned(), self.program.clone()), (KEYWORD.to_owned(), value.to_string())])
    }
}

/// The values of a JSON object by their dotted keys.
pub(crate) fn flattened(value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut left = vec![(String::new(), value)];
    while let Some((key, value)) = left.pop() {
        match value {
            Value::Object(fields) => left.extend(
                fields
                    .iter()
                    .rev()
                    .map(|(name, value)| (if key.is_empty() { name.clone() } else { format!("{key}.{name}") }, value)),
            ),
            other => found.push((key, other.to_string())),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use dim_diffusion::sampler::DpmSolverOptions;

    use super::*;

    fn drawing() -> Drawing {
        Drawing {
            program: Drawing::program(),
            weights: FileIdentity { file: "a.pth".to_owned(), sha256: "00".to_owned() },
            group: None,
            autoencoder: None,
            seed: u64::MAX,
            size: [8, 12],
            upsample: None,
            enlarge: 1,
            sampler: Sampler::DpmSolver(DpmSolverOptions::default()),
            schedule: Schedule::Sd,
            time_shift: 1.0,
            prediction: Prediction::Epsilon,
            cfg_scale: 0.1 + 0.2,
            guidance_interval: None,
            guidance_rescale: 0.0,
            device: "cpu".to_owned(),
            precision: "f32".to_owned(),
        }
    }

    fn third() -> Of {
        Of { index: 2, class: Some(1), class_name: Some("owl".to_owned()) }
    }

    #[test]
    fn a_picture_tells_how_it_was_drawn_and_what_differs() {
        let (drawing, image) = (drawing(), third());
        let texts = drawing.texts_of(&image);
        let back: Drawing = serde_json::from_str(&texts[KEYWORD]).unwrap();
        assert_eq!(back, drawing);
        assert_eq!(serde_json::from_str::<Of>(&texts[KEYWORD]).unwrap(), image);
        assert_eq!(drawing.differences(&image, &texts), Some(Vec::new()));

        let moved = FileIdentity { file: "b.pth".to_owned(), ..drawing.weights.clone() };
        let same = Drawing { weights: moved, ..drawing.clone() };
        assert_eq!(same.differences(&image, &texts), Some(Vec::new()), "the file's place is not what it is");
        let other = Drawing { seed: 1, upsample: Some(2), ..drawing.clone() };
        let found = other.differences(&image, &texts).unwrap();
        assert_eq!(found, [format!("`seed`: there {}, here 1", u64::MAX), "`upsample`: there none, here 2".to_owned()]);
        let found = drawing.differences(&Of { class: None, class_name: None, ..third() }, &texts).unwrap();
        assert_eq!(found, ["`class`: there 1, here none", "`class_name`: there \"owl\", here none"]);
        assert_eq!(drawing.differences(&image, &Texts::new()), None);
    }

    #[test]
    fn a_file_is_known_by_its_contents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "abc").unwrap();
        // The example of FIPS 180-4.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(FileIdentity::of(&path).unwrap(), FileIdentity { file: "a.txt".into(), sha256: expected.into() });
    }
}
