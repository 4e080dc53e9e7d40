//! What an encoding says of itself: how it was made, which shards it has, how its channels vary.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Element, MEND};
use crate::{DataError, atomic_file};

const FORMAT: &str = "dim-latents";
/// Raised when a reader of the old format would misunderstand the new one.
const VERSION: u32 = 1;
/// Options of data sources that say where files are, not what is in them.
const PLACES: [&str; 2] = ["path", "cache"];

/// What is encoded, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoding {
    /// `dim-latents`.
    pub format: String,
    /// Of the format.
    pub version: u32,
    /// The images: the table `[data]` that they were read with.
    pub data: serde_json::Value,
    /// How many there are, broken ones included.
    pub images: usize,
    /// Names of their classes.
    pub classes: Vec<String>,
    /// Side of the square that each image was cropped to, in pixels.
    pub image_size: usize,
    /// The autoencoder: its sizes and the checksum of its weights.
    pub autoencoder: serde_json::Value,
    /// What a latent is multiplied by before a network sees it; the stored moments are not.
    pub scaling_factor: f64,
    /// Channels of a latent; its moments have twice as many.
    pub latent_channels: usize,
    /// Rows, and columns, of a latent.
    pub latent_size: usize,
    /// In what numbers moments are stored.
    pub element: Element,
    /// Whether the mirror image of every image is encoded, too.
    pub mirrored: bool,
    /// Images of the source that belong to a shard.
    pub images_per_shard: usize,
}

impl Encoding {
    /// The values of the two first fields.
    #[must_use]
    pub fn format() -> (String, u32) {
        (FORMAT.to_owned(), VERSION)
    }

    /// Number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.images.div_ceil(self.images_per_shard)
    }

    /// The images of the source that belong to shard `shard`.
    #[must_use]
    pub fn images_of(&self, shard: usize) -> std::ops::Range<usize> {
        let first = shard * self.images_per_shard;
        first..(first + self.images_per_shard).min(self.images)
    }

    /// Numbers in the moments of an image.
    #[must_use]
    pub fn record_len(&self) -> usize {
        2 * self.latent_channels * self.latent_size * self.latent_size
    }

    /// Bytes of the moments of an image as stored.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.record_len() * self.element.bytes()
    }

    /// Moments stored for each image: its own, and its mirror image's.
    #[must_use]
    pub fn records_per_image(&self) -> usize {
        1 + usize::from(self.mirrored)
    }

    /// The name of the file of shard `shard`.
    #[must_use]
    pub fn file_name(shard: usize) -> String {
        format!("{shard:06}.safetensors")
    }

    /// One sentence for each way in which `other` is another encoding. Where the images lie does not matter.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let table = |encoding: &Self| match serde_json::json!(encoding) {
            serde_json::Value::Object(mut table) => {
                if let Some(data) = table.get_mut("data").and_then(|data| data.as_object_mut()) {
                    data.retain(|key, _| !PLACES.contains(&key.as_str()));
                }
                table
            }
            _ => serde_json::Map::new(),
        };
        let (here, there) = (table(self), table(other));
        let differ = |key: &String| {
            let show = |value: Option<&serde_json::Value>| value.map_or_else(|| "absent".into(), ToString::to_string);
            (here.get(key) != there.get(key)).then(|| {
                format!("`{key}`: there {}, here {}", shortened(show(there.get(key))), shortened(show(here.get(key))))
            })
        };
        here.keys().filter_map(differ).collect()
    }

    /// Checks that sizes are such that nothing overflows and every shard has a place.
    fn check(&self, path: &Path) -> Result<(), DataError> {
        let wrong = |expected: &str, found: String| Err(wrong(path, expected, found));
        if self.format != FORMAT {
            return wrong("`format` \"dim-latents\"", format!("{:?}", self.format));
        }
        if self.version != VERSION {
            return wrong(&format!("version {VERSION} of the format"), format!("version {}", self.version));
        }
        let bounds = [
            ("images", self.images, u32::MAX as usize),
            ("images_per_shard", self.images_per_shard, u32::MAX as usize),
            ("latent_channels", self.latent_channels, 4096),
            ("latent_size", self.latent_size, 16_384),
        ];
        for (name, value, limit) in bounds {
            if !(1..=limit).contains(&value) {
                return wrong(&format!("`{name}` from 1 to {limit}"), value.to_string());
            }
        }
        if !(self.scaling_factor > 0.0 && self.scaling_factor.is_finite()) {
            return wrong("a positive `scaling_factor`", self.scaling_factor.to_string());
        }
        Ok(())
    }

    /// Reads `encoding.json`.
    pub(super) fn read(path: &Path) -> Result<Self, DataError> {
        let encoding: Self = read_json(path)?;
        encoding.check(path).map(|()| encoding)
    }

    /// Writes `encoding.json`.
    pub(super) fn write(&self, path: &Path) -> Result<(), DataError> {
        self.check(path)?;
        write_json(path, self)
    }
}

/// Long lists, such as a thousand classes, would bury the rest of a message.
fn shortened(text: String) -> String {
    const LONGEST: usize = 300;
    if text.chars().count() <= LONGEST { text } else { text.chars().take(LONGEST).chain(" …".chars()).collect() }
}

/// Sums over moments, channel by channel, from which statistics are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// Places summed over, in each channel.
    pub places: u64,
    /// Of the means.
    pub mean: Vec<f64>,
    /// Of the means' squares.
    pub mean_squared: Vec<f64>,
    /// Of the variances.
    pub variance: Vec<f64>,
}

impl Sums {
    /// Sums of nothing, over so many channels of a latent.
    #[must_use]
    pub fn zero(channels: usize) -> Self {
        let zeros = vec![0.0; channels];
        Self { places: 0, mean: zeros.clone(), mean_squared: zeros.clone(), variance: zeros }
    }

    /// Adds moments, `[2 × channel, place]`.
    pub(super) fn add(&mut self, moments: &[f32]) {
        let channels = self.mean.len();
        let places = moments.len() / (2 * channels);
        self.places += places as u64;
        for channel in 0..channels {
            let (means, log_variances) =
                (&moments[channel * places..][..places], &moments[(channels + channel) * places..][..places]);
            let (mut mean, mut squared, mut variance) = (0.0, 0.0, 0.0);
            for (value, log_variance) in means.iter().zip(log_variances) {
                let value = f64::from(*value);
                mean += value;
                squared += value * value;
                variance += f64::from(log_variance.exp());
            }
            self.mean[channel] += mean;
            self.mean_squared[channel] += squared;
            self.variance[channel] += variance;
        }
    }

    /// Adds other sums.
    pub(super) fn merge(&mut self, other: &Self) {
        self.places += other.places;
        for (into, from) in [
            (&mut self.mean, &other.mean),
            (&mut self.mean_squared, &other.mean_squared),
            (&mut self.variance, &other.variance),
        ] {
            into.iter_mut().zip(from).for_each(|(into, from)| *into += from);
        }
    }

    /// Whether these are the same sums but for the rounding of another machine's exponential function.
    pub(super) fn is_close_to(&self, other: &Self) -> bool {
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-6 * a.abs().max(b.abs());
        self.places == other.places
            && self.mean == other.mean
            && self.mean_squared == other.mean_squared
            && self.variance.iter().zip(&other.variance).all(close)
    }

    /// Mean and deviation of latents drawn from these moments; `None` over nothing.
    fn statistics(&self) -> Option<Statistics> {
        let places = (self.places > 0).then_some(self.places as f64)?;
        let mean: Vec<f64> = self.mean.iter().map(|sum| sum / places).collect();
        let between = |channel: usize| (self.mean_squared[channel] / places - mean[channel] * mean[channel]).max(0.0);
        let std = (0..mean.len()).map(|channel| (between(channel) + self.variance[channel] / places).sqrt()).collect();
        let std_of_means = (0..mean.len()).map(|channel| between(channel).sqrt()).collect();
        Some(Statistics { mean, std, std_of_means })
    }
}

/// How the channels of the latents vary, before scaling, over all images, their mirror images and places.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Mean of each channel.
    pub mean: Vec<f64>,
    /// Standard deviation of each channel of a latent drawn from its moments.
    pub std: Vec<f64>,
    /// Standard deviation of each channel's means alone.
    pub std_of_means: Vec<f64>,
}

/// A shard in the index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Its file.
    pub file: String,
    /// Images in it.
    pub images: usize,
    /// Length of the file.
    pub bytes: u64,
    /// CRC-32C of all that stands before the moments.
    pub crc32c: u32,
}

/// `index.json`: a finished encoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// What is encoded, and how.
    pub encoding: Encoding,
    /// Images in all shards.
    pub images: usize,
    /// Images that could not be read.
    pub skipped: usize,
    /// How the channels vary.
    pub statistics: Statistics,
    /// The shards, in order.
    pub shards: Vec<ShardEntry>,
}

impl Index {
    /// The index of these shards; `None` if they hold no image.
    pub(super) fn new(encoding: &Encoding, shards: Vec<ShardEntry>, skipped: usize, sums: &Sums) -> Option<Self> {
        let images = shards.iter().map(|shard| shard.images).sum();
        let statistics = sums.statistics()?;
        Some(Self { encoding: encoding.clone(), images, skipped, statistics, shards })
    }

    pub(super) fn read(path: &Path) -> Result<Self, DataError> {
        let index: Self = read_json(path)?;
        index.encoding.check(path)?;
        let (expected, found) = (index.encoding.shards(), index.shards.len());
        if expected != found {
            return Err(wrong(path, &format!("{expected} shards"), found.to_string()));
        }
        let total = index.shards.iter().try_fold(0_usize, |sum, shard| sum.checked_add(shard.images));
        if total != Some(index.images) || index.images == 0 || index.images > index.encoding.images {
            return Err(wrong(path, "as many images as its shards have, and one at least", index.images.to_string()));
        }
        Ok(index)
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), DataError> {
        write_json(path, self)
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, DataError> {
    let bytes = fs::read(path).map_err(|error| io(path, "reading it", error))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(path, "the JSON of an encoding", error.to_string()))
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), DataError> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| wrong(path, "text and numbers", error.to_string()))?;
    atomic_file::write(path, (text + "\n").as_bytes()).map_err(|error| io(path, "writing it", error))
}

pub(super) fn wrong(path: &Path, expected: &str, found: String) -> DataError {
    DataError::WrongContents { path: path.to_owned(), expected: expected.to_owned(), found, mend: MEND }
}

pub(super) fn io(path: &Path, doing: &'static str, error: std::io::Error) -> DataError {
    let mend = "make sure that the folder is there, may be read and written, and has room";
    DataError::Io { path: path.to_owned(), doing, error, mend }
}
