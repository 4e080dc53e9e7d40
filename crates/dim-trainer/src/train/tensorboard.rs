//! TensorBoard event files: scalars and PNG pictures.
//!
//! An event is a protobuf message (`tensorflow/core/util/event.proto`, `framework/summary.proto`) in a TFRecord frame: length, masked
//! CRC-32C of the length, bytes, masked CRC-32C of the bytes. Only the few fields that TensorBoard needs are encoded, by hand.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::TrainerError;

/// An open event file. TensorBoard's step is `images_seen`.
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Starts an event file in `folder`. After a resume, TensorBoard drops what earlier files say of later images.
    ///
    /// # Errors
    /// [`TrainerError::Write`] naming the file.
    pub(super) fn create(folder: &Path, resumed_at: Option<u64>) -> Result<Self, TrainerError> {
        let now = now_s();
        let path = folder.join(format!("events.out.tfevents.{:010}.dim-trainer.{}", now as u64, std::process::id()));
        let file = File::create(&path).map_err(|source| TrainerError::write(&path, source))?;
        let mut events = Self { path, file };
        events.append(&event(now, 0, FILE_VERSION, b"brain.Event:2"))?;
        if let Some(images_seen) = resumed_at {
            events.append(&event(now, images_seen + 1, SESSION_LOG, &SESSION_START))?;
        }
        Ok(events)
    }

    /// Writes one value of each tag.
    ///
    /// # Errors
    /// [`TrainerError::Write`] naming the file.
    pub(super) fn scalars(&mut self, images_seen: u64, values: &[(&str, f64)]) -> Result<(), TrainerError> {
        let summary: Vec<u8> = values.iter().flat_map(|(tag, value)| scalar(tag, *value as f32)).collect();
        self.append(&event(now_s(), images_seen, SUMMARY, &summary))
    }

    /// Writes a picture, encoded as PNG.
    ///
    /// # Errors
    /// [`TrainerError::Write`] naming the file.
    pub(super) fn picture(
        &mut self,
        images_seen: u64,
        tag: &str,
        picture: &crate::grid::Picture,
    ) -> Result<(), TrainerError> {
        self.append(&event(now_s(), images_seen, SUMMARY, &image(tag, picture)))
    }

    fn append(&mut self, event: &[u8]) -> Result<(), TrainerError> {
        self.file
            .write_all(&record(event))
            .and_then(|()| self.file.flush())
            .map_err(|source| TrainerError::write(&self.path, source))
    }
}

// Field numbers of `Event`.
const FILE_VERSION: u32 = 3;
const SUMMARY: u32 = 5;
const SESSION_LOG: u32 = 7;
/// `SessionLog { status: START }`.
const SESSION_START: [u8; 2] = [1 << 3 | VARINT as u8, 1];

fn event(wall_time_s: f64, step: u64, what: u32, contents: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(contents.len() + 32);
    fixed64(&mut message, 1, wall_time_s);
    if step != 0 {
        integer(&mut message, 2, step);
    }
    delimited(&mut message, what, contents);
    message
}

/// One `Summary.Value` with `simple_value`, as a field of `Summary`.
fn scalar(tag: &str, value: f32) -> Vec<u8> {
    let mut entry = Vec::new();
    delimited(&mut entry, 1, tag.as_bytes());
    key(&mut entry, 2, FIXED32);
    entry.extend(value.to_le_bytes());
    field_of_summary(&entry)
}

/// One `Summary.Value` with an `Image`, as a field of `Summary`.
fn image(tag: &str, picture: &crate::grid::Picture) -> Vec<u8> {
    let mut image = Vec::with_capacity(picture.png.len() + 32);
    integer(&mut image, 1, picture.height.into());
    integer(&mut image, 2, picture.width.into());
    integer(&mut image, 3, picture.channels.into()); // colour space: 1 grey, 3 RGB
    delimited(&mut image, 4, &picture.png);
    let mut entry = Vec::with_capacity(image.len() + 32);
    delimited(&mut entry, 1, tag.as_bytes());
    delimited(&mut entry, 4, &image);
    field_of_summary(&entry)
}

fn field_of_summary(entry: &[u8]) -> Vec<u8> {
    let mut summary = Vec::with_capacity(entry.len() + 8);
    delimited(&mut summary, 1, entry);
    summary
}

// Wire types of protobuf.
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const DELIMITED: u32 = 2;
const FIXED32: u32 = 5;

fn key(message: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(message, u64::from(field << 3 | wire_type));
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn integer(message: &mut Vec<u8>, field: u32, value: u64) {
    key(message, field, VARINT);
    varint(message, value);
}

fn fixed64(message: &mut Vec<u8>, field: u32, value: f64) {
    key(message, field, FIXED64);
    message.extend(value.to_le_bytes());
}

fn delimited(message: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    key(message, field, DELIMITED);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(bytes.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(bytes);
    record.extend(masked_crc(bytes).to_le_bytes());
    record
}

/// TFRecord's mask keeps a CRC of data that hold CRCs from degenerating.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Picture;

    const TIME_S: f64 = 1_700_000_000.25;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    // The expected bytes were written by Python's `tensorboard` 2.21.0 (`RecordWriter` over `Event.SerializeToString`).

    #[test]
    fn first_record_is_the_one_tensorboard_writes() {
        let bytes = record(&event(TIME_S, 0, FILE_VERSION, b"brain.Event:2"));
        assert_eq!(hex(&bytes), "1800000000000000a37f4b220900001040fc54d9411a0d627261696e2e4576656e743a32338d2fe9");
    }

    #[test]
    fn scalars_are_the_bytes_tensorboard_writes() {
        let summary = [scalar("loss", 0.375), scalar("lr", 1e-4)].concat();
        let expected = "2600000000000000734fe3000900001040fc54d94110ac022a180a0b0a046c6f7373150000c03e0a090a026c721517b7d138da03d3c4";
        assert_eq!(hex(&record(&event(TIME_S, 300, SUMMARY, &summary))), expected);
    }

    #[test]
    fn pictures_are_the_bytes_tensorboard_writes() {
        let picture = Picture { width: 200, height: 2, channels: 3, png: b"PNG".to_vec() };
        let expected = "2700000000000000bbe1b1460900001040fc54d94110ac022a190a170a0773616d706c6573220c080210c80118032203504e47d9a14857";
        assert_eq!(hex(&record(&event(TIME_S, 300, SUMMARY, &image("samples", &picture)))), expected);
    }

    #[test]
    fn resume_is_the_restart_mark_tensorboard_writes() {
        let expected = "100000000000000095fbfe180900001040fc54d94110ad023a020801cb79b93b";
        assert_eq!(hex(&record(&event(TIME_S, 301, SESSION_LOG, &SESSION_START))), expected);
    }
}
