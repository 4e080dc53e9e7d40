//! From a folder of images to the statistics of their features, whole and in patches.
//!
//! Whole images are resized to the network's input with Pillow's antialiased bicubic filter, both sides by themselves, and rounded to
//! bytes, as clean-fid does (Parmar et al., arXiv 2104.11222). Patches are cut first. One thread reads and resizes ahead while the
//! device computes.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

use dim_data::Image;
use dim_data::sources::ImageFiles;
use dim_data::transform::{Filter, resize};
use dim_eval::features::FeatureExtractor;
use dim_eval::{PatchGrid, Statistics};
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

use crate::error::TrainerError;

/// Channels of an image.
const RGB: usize = 3;
/// Images that are read at once; each may be cut into hundreds of patches, which wait in memory.
const READ_AT_ONCE: usize = 16;

/// How images are measured.
pub(crate) struct Measure<'a> {
    /// What sees them.
    pub extractor: &'a dyn FeatureExtractor,
    /// Where it computes.
    pub device: Device,
    /// Which patches are measured, too.
    pub patches: Option<PatchGrid>,
    /// Images that go through the network at once.
    pub batch_size: usize,
}

/// What is known of a set of images.
pub(crate) struct Measured {
    /// Of whole images.
    pub whole: Statistics,
    /// Of patches.
    pub patches: Option<Statistics>,
}

/// An image as the network is to see it, and its patches: bytes `[row, column, channel]` of the input's size.
struct Prepared {
    whole: Vec<u8>,
    patches: Vec<Vec<u8>>,
}

impl Measure<'_> {
    /// Measures every image of a set; `progress` hears how many are done.
    ///
    /// # Errors
    /// The first image that cannot be read or is smaller than a patch, by name; features that are no numbers; no memory.
    pub(crate) fn folder(&self, files: &ImageFiles, mut progress: impl FnMut(usize)) -> Result<Measured, TrainerError> {
        let _no_grad = tch::no_grad_guard();
        let dimension = self.extractor.dimension();
        let mut whole = Queue::new(Statistics::new(dimension)?);
        let mut patches = Queue::new(Statistics::new(dimension)?);
        let (size, grid) = (self.extractor.input_size(), self.patches);
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(1);
            scope.spawn(move || {
                for paths in files.paths().chunks(READ_AT_ONCE) {
                    let prepared: Vec<_> = paths.par_iter().map(|path| prepare(path, size, grid.as_ref())).collect();
                    // Of several that cannot be read, the first by name is told.
                    let prepared: Result<Vec<Prepared>, TrainerError> = prepared.into_iter().collect();
                    let failed = prepared.is_err();
                    if sender.send(prepared).is_err() || failed {
                        break;
                    }
                }
            });
            let mut done = 0;
            for prepared in receiver {
                for image in prepared? {
                    done += 1;
                    whole.push(image.whole, self)?;
                    image.patches.into_iter().try_for_each(|patch| patches.push(patch, self))?;
                }
                progress(done);
            }
            Ok::<_, TrainerError>(())
        })?;
        let patches = patches.finish(self)?;
        Ok(Measured { whole: whole.finish(self)?, patches: grid.map(|_| patches) })
    }

    fn features(&self, inputs: &[Vec<u8>]) -> Result<Tensor, TrainerError> {
        let side = self.extractor.input_size() as i64;
        let bytes = Tensor::f_from_slice(&inputs.concat())?.f_view([inputs.len() as i64, side, side, RGB as i64])?;
        let bytes = bytes.f_to_device(self.device)?.f_permute([0, 3, 1, 2])?.f_contiguous()?;
        let images = bytes.f_to_kind(Kind::Float)?.f_div_scalar(127.5)?.f_sub_scalar(1.0)?;
        Ok(self.extractor.features(&images)?)
    }
}

/// Inputs that wait until there is a batch of them.
struct Queue {
    waiting: Vec<Vec<u8>>,
    statistics: Statistics,
}

impl Queue {
    fn new(statistics: Statistics) -> Self {
        Self { waiting: Vec::new(), statistics }
    }

    fn push(&mut self, input: Vec<u8>, measure: &Measure<'_>) -> Result<(), TrainerError> {
        self.waiting.push(input);
        if self.waiting.len() >= measure.batch_size { self.flush(measure) } else { Ok(()) }
    }

    fn flush(&mut self, measure: &Measure<'_>) -> Result<(), TrainerError> {
        if !self.waiting.is_empty() {
            self.statistics.add(&measure.features(&self.waiting)?)?;
            self.waiting.clear();
        }
        Ok(())
    }

    fn finish(mut self, measure: &Measure<'_>) -> Result<Statistics, TrainerError> {
        self.flush(measure)?;
        Ok(self.statistics)
    }
}

fn prepare(path: &Path, size: usize, grid: Option<&PatchGrid>) -> Result<Prepared, TrainerError> {
    let image = ImageFiles::load(path)?;
    let input = |image: &Image| Ok::<_, TrainerError>(resize(image, size, size, Filter::Bicubic)?.pixels().to_vec());
    let patches = match grid {
        None => Vec::new(),
        Some(grid) => {
            let corners = grid
                .corners(image.height(), image.width())
                .map_err(|error| TrainerError::Unsupported(format!("{}: {error}", path.display())))?;
            let patch = |(row, column)| input(&image.cut(row, column, grid.size(), grid.size())?);
            corners.into_iter().map(patch).collect::<Result<_, _>>()?
        }
    };
    Ok(Prepared { whole: input(&image)?, patches })
}
