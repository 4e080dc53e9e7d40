//! Images through the network, in batches, into a set.

use dim_data::Image;
use dim_data::transform::{Filter, resize};
use dim_diffusion::upload;
use dim_eval::features::{FeatureExtractor, Input, Seen};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use super::set::Set;
use crate::error::TrainerError;
use crate::grid::{images_of, to_bytes};

/// Channels of an image.
const RGB: i64 = 3;

/// How images are measured.
#[derive(Clone, Copy)]
pub(crate) struct Measure<'a> {
    /// What sees them.
    pub network: &'a dyn FeatureExtractor,
    /// Where it computes.
    pub device: Device,
    /// Images that go through the network at once.
    pub batch_size: usize,
}

/// A set that grows. Images that came wait until there is a batch of them.
pub(crate) struct Measuring<'a> {
    measure: Measure<'a>,
    pub(crate) set: Set,
    /// Images of one size that are not prepared yet.
    waiting: Vec<Image>,
    /// Prepared ones, `[image, 3, row, column]`, and how large the images were.
    prepared: Vec<Tensor>,
    sizes: Vec<[usize; 2]>,
    /// The batch that the device is at, or has just seen: nobody waits for it until the next one is on its way.
    under_way: Option<(Seen, Vec<[usize; 2]>)>,
}

/// An image as [`Measuring::push`] takes it: where the network needs one size, resized to that.
///
/// # Errors
/// [`TrainerError::Data`].
pub(super) fn input_of(input: Input, image: Image) -> Result<Image, TrainerError> {
    Ok(match input {
        Input::Resized(side) => resize(&image, side, side, Filter::Bicubic)?,
        Input::AnySize => image,
    })
}

impl<'a> Measuring<'a> {
    pub(crate) fn new(measure: Measure<'a>, set: Set) -> Self {
        Self { measure, set, waiting: Vec::new(), prepared: Vec::new(), sizes: Vec::new(), under_way: None }
    }

    /// Takes in an image that was `size` before it became an [input](input_of), RGB.
    ///
    /// # Errors
    /// What the network and the set say; no memory.
    pub(crate) fn push(&mut self, input: Image, size: [usize; 2]) -> Result<(), TrainerError> {
        let of = |image: &Image| [image.height(), image.width()];
        if self.waiting.first().is_some_and(|first| of(first) != of(&input)) {
            self.prepare()?;
        }
        self.waiting.push(input);
        self.sizes.push(size);
        if self.sizes.len() >= self.measure.batch_size { self.send() } else { Ok(()) }
    }

    /// Takes in images on the device, `[image, channel, row, column]` in [-1, 1], grey or RGB, as if they had been written to files.
    ///
    /// # Errors
    /// As [`push`](Self::push); [`TrainerError::Unsupported`] for other numbers of channels.
    pub(crate) fn push_samples(&mut self, samples: &Tensor) -> Result<(), TrainerError> {
        let size = samples.size();
        if size.len() != 4 || !matches!(size[1], 1 | RGB) {
            return Err(TrainerError::Unsupported(format!(
                "images to be judged are [image, 1 or 3, row, column], got {size:?}"
            )));
        }
        let pixels = [size[2] as usize, size[3] as usize];
        let input = self.measure.network.input();
        if matches!(input, Input::Resized(_)) {
            let shown = samples.f_expand([size[0], RGB, size[2], size[3]], false)?;
            let inputs: Vec<Image> =
                images_of(&shown)?.into_par_iter().map(|image| input_of(input, image)).collect::<Result<_, _>>()?;
            return inputs.into_iter().try_for_each(|input| self.push(input, pixels));
        }
        self.prepare()?;
        let shown = samples.f_to_device(self.measure.device)?;
        for piece in shown.f_split(self.measure.batch_size as i64, 0)? {
            let bytes = to_bytes(&piece)?.f_expand([-1, RGB, -1, -1], false)?;
            self.prepared.push(self.measure.network.prepare(&bytes)?);
            self.sizes.extend(vec![pixels; piece.size()[0] as usize]);
            if self.sizes.len() >= self.measure.batch_size {
                self.send()?;
            }
        }
        Ok(())
    }

    /// Sends what waits through the network, and waits for what it sees.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(crate) fn flush(&mut self) -> Result<(), TrainerError> {
        self.send()?;
        self.take_in()
    }

    /// Sends what waits through the network, and takes in what it saw before.
    fn send(&mut self) -> Result<(), TrainerError> {
        self.prepare()?;
        if !self.prepared.is_empty() {
            let batch = match &self.prepared[..] {
                [only] => only.shallow_clone(),
                several => Tensor::f_cat(several, 0)?,
            };
            let seen = self.measure.network.see(&batch)?;
            self.take_in()?;
            self.under_way = Some((seen, std::mem::take(&mut self.sizes)));
            self.prepared.clear();
        }
        Ok(())
    }

    fn take_in(&mut self) -> Result<(), TrainerError> {
        let Some((seen, sizes)) = self.under_way.take() else { return Ok(()) };
        self.set.add(&seen, &sizes)
    }

    /// The set, with all that was pushed in it.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(crate) fn finish(mut self) -> Result<Set, TrainerError> {
        self.flush()?;
        Ok(self.set)
    }

    fn prepare(&mut self) -> Result<(), TrainerError> {
        let Some(first) = self.waiting.first() else { return Ok(()) };
        let shape = [self.waiting.len() as i64, first.height() as i64, first.width() as i64, RGB];
        let bytes: Vec<&[u8]> = self.waiting.iter().map(Image::pixels).collect();
        let bytes = upload(&Tensor::f_from_slice(&bytes.concat())?, self.measure.device)?.f_view(shape)?;
        let pixels = bytes.f_permute([0, 3, 1, 2])?.f_contiguous()?.f_to_kind(Kind::Float)?;
        self.prepared.push(self.measure.network.prepare(&pixels)?);
        self.waiting.clear();
        Ok(())
    }
}
