//! Pictures: a batch of images as one PNG, in rows and columns.

use dim_data::Image;
use tch::{Device, Kind, Tensor};

use crate::error::TrainerError;
use crate::png_file::{self, Texts};

/// Black pixels between neighbouring images.
const GAP: usize = 2;

/// An encoded picture.
pub struct Picture {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// 1 (grey) or 3 (RGB).
    pub channels: u32,
    /// The PNG file.
    pub png: Vec<u8>,
}

/// Lays out `images`, `[image, channel, row, column]` in [-1, 1] with 1 or 3 channels, row by row; the last row may stay partly black.
///
/// # Errors
/// [`TrainerError::Unsupported`] for other numbers of channels, [`TrainerError::Png`], [`TrainerError::Libtorch`].
pub fn grid(images: &Tensor, columns: usize) -> Result<Picture, TrainerError> {
    let whole = compose(&images_of(images)?, columns)?;
    let [width, height, channels] = [whole.width(), whole.height(), whole.channels()].map(|size| size as u32);
    Ok(Picture { width, height, channels, png: png_file::encode(&whole, &Texts::new())? })
}

/// The images of `[image, channel, row, column]` in [-1, 1] with 1 or 3 channels, in bytes.
///
/// # Errors
/// [`TrainerError::Unsupported`] for other shapes, [`TrainerError::Libtorch`].
pub(crate) fn images_of(images: &Tensor) -> Result<Vec<Image>, TrainerError> {
    let &[_, channels, height, width] = images.size().as_slice() else {
        return Err(TrainerError::Unsupported(format!(
            "pictures are made of [image, channel, row, column], got {:?}",
            images.size()
        )));
    };
    let [channels, height, width] = [channels, height, width].map(|size| size as usize);
    if !matches!(channels, 1 | 3) {
        return Err(TrainerError::Unsupported(format!(
            "only grey and RGB images can be shown as pictures, these have {channels} channels"
        )));
    }
    let interleaved = to_bytes(images)?.f_to_kind(Kind::Uint8)?.f_permute([0, 2, 3, 1])?.f_contiguous()?;
    let interleaved = interleaved.f_to_device(Device::Cpu)?.f_view([-1])?;
    let mut bytes = vec![0_u8; interleaved.numel()];
    interleaved.f_copy_data(&mut bytes, interleaved.numel())?;
    let image = |pixels: &[u8]| Ok(Image::new(width, height, channels, pixels.to_vec())?);
    bytes.chunks_exact((channels * height * width).max(1)).map(image).collect()
}

/// Images of one size, row by row in so many columns, with gaps.
///
/// # Errors
/// [`TrainerError::Unsupported`] for no images, or images of several sizes.
pub(crate) fn compose(images: &[Image], columns: usize) -> Result<Image, TrainerError> {
    let size_of = |image: &Image| [image.height(), image.width(), image.channels()];
    let [height, width, channels] = match images.first().map(size_of) {
        Some(size) if images.iter().all(|image| size_of(image) == size) => size,
        _ => return Err(TrainerError::Unsupported("a picture is made of images of one size".to_owned())),
    };
    let columns = columns.clamp(1, images.len());
    let rows = images.len().div_ceil(columns);
    let (total_width, total_height) = (with_gaps(columns, width), with_gaps(rows, height));
    let mut pixels = vec![0_u8; total_width * total_height * channels];
    for (index, image) in images.iter().enumerate() {
        let (top, left) = (index / columns * (height + GAP), index % columns * (width + GAP));
        for (row, values) in image.pixels().chunks_exact(width * channels).enumerate() {
            let start = ((top + row) * total_width + left) * channels;
            pixels[start..start + values.len()].copy_from_slice(values);
        }
    }
    Ok(Image::new(total_width, total_height, channels, pixels)?)
}

/// `images`, `[image, channel, row, column]`, with every pixel shown as `factor` x `factor`.
///
/// # Errors
/// [`TrainerError::Libtorch`].
pub(crate) fn enlarged(images: &Tensor, factor: i64) -> Result<Tensor, TrainerError> {
    let rows = images.f_repeat_interleave_self_int(factor, 2, None)?;
    Ok(rows.f_repeat_interleave_self_int(factor, 3, None)?)
}

/// The bytes of images in [-1, 1] as whole numbers in f32, where the images are: -1 is 0 and 1 is 255, rounded to the nearest as torchvision does;
/// values outside are clamped, what is no number is black.
///
/// # Errors
/// [`TrainerError::Libtorch`].
pub(crate) fn to_bytes(images: &Tensor) -> Result<Tensor, TrainerError> {
    // A copy, and the rest in place: pictures of 4096 pixels fill gigabytes.
    let mut images = images.f_detach()?.f_to_kind(Kind::Float)?.f_nan_to_num(-1.0, 1.0, -1.0)?;
    let mut unit = images.f_mul_scalar_(0.5)?.f_add_scalar_(0.5)?.f_clamp_(0.0, 1.0)?;
    Ok(unit.f_mul_scalar_(255.0)?.f_add_scalar_(0.5)?.f_floor_()?)
}

fn with_gaps(count: usize, size: usize) -> usize {
    count * size + count.saturating_sub(1) * GAP
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn decode(picture: &Picture) -> Vec<u8> {
        let mut reader = png::Decoder::new(std::io::Cursor::new(&picture.png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        pixels
    }

    #[test]
    fn images_stand_in_reading_order_with_gaps() {
        let images = Tensor::from_slice(&[-1.0_f32, 1.0, 0.0]).view([3, 1, 1, 1]);
        let picture = grid(&images, 2).unwrap();
        assert_eq!((picture.width, picture.height), (4, 4));
        let pixels = decode(&picture);
        assert_eq!(pixels[..4], [0, 0, 0, 255]);
        assert_eq!(pixels[12..], [128, 0, 0, 0]);
    }

    #[test]
    fn enlarging_repeats_every_pixel() {
        let image = Tensor::from_slice(&[-1.0_f32, 1.0]).view([1, 1, 1, 2]);
        let pixels = decode(&grid(&enlarged(&image, 2).unwrap(), 1).unwrap());
        assert_eq!(pixels, [0, 0, 255, 255, 0, 0, 255, 255]);
    }

    #[test]
    fn channels_become_interleaved() {
        let image = Tensor::from_slice(&[1.0_f32, -1.0, 0.0, 0.5, -0.5, 2.0]).view([1, 3, 1, 2]);
        let pixels = decode(&grid(&image, 8).unwrap());
        assert_eq!(pixels, [255, 128, 64, 0, 191, 255]);
    }

    #[test]
    fn values_that_are_no_number_are_black() {
        let bytes = to_bytes(&Tensor::from_slice(&[f32::NAN, f32::INFINITY])).unwrap();
        assert_eq!(bytes.double_value(&[0]), 0.0);
        assert_eq!(bytes.double_value(&[1]), 255.0);
    }

    #[test]
    fn bytes_are_rounded_to_the_nearest() {
        let to_byte = |value: f32| ((value * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
        let values: Vec<f32> =
            (0..3000).map(|step| -1.2 + step as f32 * 0.0008).chain([f32::NAN, f32::INFINITY]).collect();
        let expected: Vec<u8> = values.iter().map(|value| to_byte(*value)).collect();
        let images = Tensor::from_slice(&values).view([1, 1, 1, -1]);
        assert_eq!(images_of(&images).unwrap()[0].pixels(), expected);
        let on_device = Vec::<f32>::try_from(to_bytes(&images).unwrap().flatten(0, -1)).unwrap();
        assert_eq!(on_device, expected.iter().map(|&byte| f32::from(byte)).collect::<Vec<_>>());
    }

    #[test]
    fn latents_are_refused() {
        let error = grid(&Tensor::zeros([1, 4, 2, 2], (Kind::Float, Device::Cpu)), 1).err().unwrap();
        assert!(error.to_string().contains("4 channels"), "{error}");
    }
}
