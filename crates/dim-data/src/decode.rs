//! Compressed image files to pixels.

use std::any::Any;
use std::fs;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::{DynamicImage, ImageFormat, ImageReader};

use crate::{DataError, Image};

/// Reads a PNG, JPEG, WebP or BMP file as RGB; what is transparent shows white.
///
/// The content decides about the format, not the name: ImageNet has PNG files that are named `.JPEG`. Orientation tags of
/// cameras are not applied, as nobody in this field applies them.
pub(crate) fn decode_file(path: &Path) -> Result<Image, DataError> {
    let image = fs::read(path).map_err(|error| error.to_string()).and_then(|bytes| decode_bytes(&bytes));
    image.map_err(|reason| DataError::BrokenImage { path: path.to_owned(), reason })
}

/// As [`decode_file`], from the bytes of a file; the error is the reason alone.
pub(crate) fn decode_bytes(bytes: &[u8]) -> Result<Image, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    let decoded = guarded(|| {
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
        match reader.format() {
            Some(ImageFormat::Jpeg) if !jpeg_reaches_its_end(bytes) => {
                return Err("the JPEG ends before its end marker (it is truncated)".into());
            }
            Some(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP | ImageFormat::Bmp) => {}
            _ => return Err("neither PNG, JPEG, WebP nor BMP".into()),
        }
        reader.decode().map_err(|error| error.to_string())
    })?;
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    Image::new(width, height, 3, over_white(decoded)).map_err(|error| error.to_string())
}

fn over_white(image: DynamicImage) -> Vec<u8> {
    if !image.color().has_alpha() {
        return image.into_rgb8().into_raw();
    }
    let blend = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    image.into_rgba8().pixels().flat_map(|pixel| [0, 1, 2].map(|channel| blend(pixel[channel], pixel[3]))).collect()
}

/// Whether a JPEG has its end marker (ITU-T T.81, annex B). The decoder does not ask: it fills what a truncated file lacks
/// with grey, which nobody would notice in a training set.
fn jpeg_reaches_its_end(bytes: &[u8]) -> bool {
    let mut at = 2; // past the start marker
    while let Some(offset) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xFF)) {
        let marker = at + offset + 1;
        at = match bytes.get(marker) {
            Some(0xD9) => return true,
            // A byte 0xFF of the picture, a restart, or a lone marker: no length follows.
            Some(0x00 | 0x01 | 0xD0..=0xD8) => marker + 1,
            Some(0xFF) => marker, // padding before a marker
            // The segment is skipped, for it may hold another JPEG: a preview with an end marker of its own.
            Some(_) => match bytes.get(marker + 1..marker + 3) {
                Some(length) => marker + 1 + usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return false,
            },
            None => return false,
        };
    }
    false
}

/// Runs a decoder so that a panic inside it becomes an error: one malformed file of a million must not end a run of days.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // Sound to assert: a decoder that panicked leaves nothing behind but what is dropped here.
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|panic| Err(format!("the decoder panicked: {}", panic_message(panic.as_ref()))))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use image::{ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn transparency_shows_white() {
        let pixels = [[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 255, 51]];
        let image = RgbaImage::from_fn(3, 1, |x, _| Rgba(pixels[x as usize]));
        // 51 / 255 is a fifth: 0.2 * value + 0.8 * 255.
        let expected = [10, 20, 30, 255, 255, 255, 204, 224, 255];
        assert_eq!(decode_bytes(&encoded(image, ImageFormat::Png)).unwrap().pixels(), expected);
    }

    #[test]
    fn the_content_decides_about_the_format() {
        let image = RgbImage::from_fn(2, 2, |x, y| Rgb([x as u8, y as u8, 7]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.JPEG");
        fs::write(&path, encoded(image.clone(), ImageFormat::Png)).unwrap();
        assert_eq!(decode_file(&path).unwrap().pixels(), image.as_raw().as_slice());
    }

    #[test]
    fn grey_and_sixteen_bit_images_become_rgb() {
        let grey = ImageBuffer::from_pixel(2, 1, Luma([9_u8]));
        assert_eq!(decode_bytes(&encoded(grey, ImageFormat::Png)).unwrap().pixels(), [9; 6]);
        let deep = ImageBuffer::from_pixel(1, 1, Rgb([0_u16, 0x8080, 0xFFFF]));
        assert_eq!(decode_bytes(&encoded(deep, ImageFormat::Png)).unwrap().pixels(), [0, 128, 255]);
    }

    #[test]
    fn a_truncated_file_is_an_error_unless_only_padding_is_gone() {
        let image = RgbImage::from_fn(24, 24, |x, y| Rgb([(x * 6) as u8, (y * 6) as u8, (x * y) as u8]));
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp] {
            let bytes = encoded(image.clone(), format);
            let whole = decode_bytes(&bytes).unwrap();
            for length in 0..bytes.len() {
                // The end marker of a PNG (12 bytes) and the padding of a WebP are no part of the picture.
                if let Ok(image) = decode_bytes(&bytes[..length]) {
                    assert!(length + 12 >= bytes.len(), "{format:?} cut to {length} of {} bytes is read", bytes.len());
                    assert_eq!(image, whole, "{format:?} cut to {length} of {} bytes", bytes.len());
                }
            }
        }
    }

    #[test]
    fn a_preview_inside_a_jpeg_does_not_end_it() {
        let plain = encoded(RgbImage::from_pixel(16, 16, Rgb([90; 3])), ImageFormat::Jpeg);
        let preview = [&[0xFF, 0xE1], &(plain.len() as u16 + 2).to_be_bytes()[..], &plain].concat();
        let with_preview = [&plain[..2], &preview, &plain[2..]].concat();
        assert!(decode_bytes(&with_preview).is_ok());
        let error = decode_bytes(&with_preview[..with_preview.len() - 2]).unwrap_err();
        assert_eq!(error, "the JPEG ends before its end marker (it is truncated)");
    }

    #[test]
    fn what_is_no_image_is_told_so() {
        assert_eq!(decode_bytes(b"").unwrap_err(), "the file is empty");
        assert_eq!(decode_bytes(b"GIF89a, or text").unwrap_err(), "neither PNG, JPEG, WebP nor BMP");
        let error = decode_file(Path::new("/nowhere/a.png")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/a.png: cannot be read as an image: No such file"), "{error}");
    }

    #[test]
    fn a_panic_inside_a_decoder_is_an_error() {
        let result: Result<(), String> = guarded(|| panic!("index {} out of bounds", 3));
        assert_eq!(result.unwrap_err(), "the decoder panicked: index 3 out of bounds");
    }
}
