//! PNG files: an image with text beside it, written and read back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use dim_data::Image;

use crate::error::TrainerError;

/// The first bytes of every PNG.
pub(crate) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Keywords and texts of a PNG.
pub(crate) type Texts = BTreeMap<String, String>;

/// The file that holds `image`, sRGB, with `texts` (`iTXt`, UTF-8) in front of its pixels.
///
/// # Errors
/// [`TrainerError::Png`].
pub(crate) fn encode(image: &Image, texts: &Texts) -> Result<Vec<u8>, TrainerError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width() as u32, image.height() as u32);
    encoder.set_color(if image.channels() == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
    for (keyword, text) in texts {
        encoder.add_itxt_chunk(keyword.clone(), text.clone())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.pixels())?;
    writer.finish()?;
    Ok(bytes)
}

/// Reads an 8-bit grey or RGB image, and what texts stand in front of its pixels. Every checksum is checked.
///
/// # Errors
/// [`TrainerError::Read`]; [`TrainerError::Picture`] for a file that is no such PNG, is damaged or cut off.
pub(crate) fn read(path: &Path) -> Result<(Image, Texts), TrainerError> {
    let broken = |problem: String| TrainerError::Picture { path: path.to_owned(), problem };
    let mut reader = decoder(path)?.read_info().map_err(|error| broken(error.to_string()))?;
    let texts = texts(reader.info()).map_err(|error| broken(error.to_string()))?;
    let size = reader.output_buffer_size().ok_or_else(|| broken("it is too large".to_owned()))?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(|error| broken(error.to_string()))?;
    reader.finish().map_err(|error| broken(error.to_string()))?;
    let channels = match (info.color_type, info.bit_depth) {
        (png::ColorType::Grayscale, png::BitDepth::Eight) => 1,
        (png::ColorType::Rgb, png::BitDepth::Eight) => 3,
        (color, depth) => {
            return Err(broken(format!("expected 8 bits of grey or RGB, got {depth:?} bits of {color:?}")));
        }
    };
    pixels.truncate(info.buffer_size());
    Ok((Image::new(info.width as usize, info.height as usize, channels, pixels)?, texts))
}

/// Width and height in pixels of a PNG, and the texts in front of its pixels.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_texts(path: &Path) -> Result<([u32; 2], Texts), TrainerError> {
    let broken =
        |error: png::DecodingError| TrainerError::Picture { path: path.to_owned(), problem: error.to_string() };
    let mut decoder = decoder(path)?;
    let info = decoder.read_header_info().map_err(broken)?;
    let size = [info.width, info.height];
    let reader = decoder.read_info().map_err(broken)?;
    Ok((size, texts(reader.info()).map_err(broken)?))
}

/// Whether a file begins as a PNG does.
pub(crate) fn is_png(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SIGNATURE.len() as u64).read_to_end(&mut start));
    read.is_ok() && start == SIGNATURE
}

fn decoder(path: &Path) -> Result<png::Decoder<BufReader<File>>, TrainerError> {
    let failed = |source| TrainerError::read(path, source);
    let mut file = File::open(path).map_err(failed)?;
    let mut start = Vec::new();
    file.by_ref().take(SIGNATURE.len() as u64).read_to_end(&mut start).map_err(failed)?;
    if start != SIGNATURE {
        return Err(TrainerError::Picture { path: path.to_owned(), problem: "it is not a PNG".to_owned() });
    }
    file.rewind().map_err(failed)?;
    Ok(png::Decoder::new(BufReader::new(file)))
}

fn texts(info: &png::Info<'_>) -> Result<Texts, png::DecodingError> {
    let utf8 = info.utf8_text.iter().map(|chunk| Ok((chunk.keyword.clone(), chunk.get_text()?)));
    let latin1 = info.uncompressed_latin1_text.iter().map(|chunk| Ok((chunk.keyword.clone(), chunk.text.clone())));
    utf8.chain(latin1).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn image_and_texts_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let texts = Texts::from([("Software".to_owned(), "test".to_owned()), ("x".to_owned(), "ε → 1".to_owned())]);
        for channels in [1, 3] {
            let image = Image::new(5, 3, channels, (0..15 * channels).map(|byte| byte as u8).collect()).unwrap();
            fs::write(&path, encode(&image, &texts).unwrap()).unwrap();
            assert_eq!(read(&path).unwrap(), (image, texts.clone()));
            assert_eq!(read_texts(&path).unwrap(), ([5, 3], texts.clone()));
        }
    }

    #[test]
    fn every_truncation_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let image = Image::new(5, 3, 1, (0..15).collect()).unwrap();
        let whole = encode(&image, &Texts::from([("x".to_owned(), "y".to_owned())])).unwrap();
        for length in 0..whole.len() - 12 {
            fs::write(&path, &whole[..length]).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("a.png"), "{length}: {error}");
        }
        let mut flipped = whole;
        let middle = flipped.len() - 20;
        flipped[middle] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert!(read(&path).is_err());
    }
}
