//! What is shown at a moment of the run: a function of the source, the order and the moment, and of nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use rayon::prelude::*;

use super::{Batch, LoaderConfig};
use crate::decode::guarded;
use crate::transform::is_mirrored;
use crate::{BrokenFile, DataError, Order, Source};

/// All that decides about the images of a run.
pub(super) struct Recipe {
    pub(super) source: Arc<dyn Source>,
    pub(super) order: Order,
    pub(super) config: LoaderConfig,
}

/// What came of one image of a batch.
struct Fetched {
    /// Its class; `None` if there was nothing to show.
    class: Option<i64>,
    /// Broken files met on the way to it.
    broken: Vec<BrokenFile>,
}

impl Recipe {
    /// The configured part of the batch that begins when `first` images have been seen, made by the threads of the current pool; `None` if
    /// stopped.
    ///
    /// `known_broken` are the broken files of the run so far; those met for the first time are added. Batches must be made
    /// in order, so that it does not matter how far ahead of its reader the loader is when there are too many.
    pub(super) fn batch(
        &self,
        first: u64,
        known_broken: &mut Vec<BrokenFile>,
        stopped: &(dyn Fn() -> bool + Sync),
    ) -> Option<Result<Batch, DataError>> {
        let (own, size) = (self.config.own(), self.config.size_at(first));
        let (first, batch_size) = (first + own.start as u64, own.len());
        let channels = self.source.channels();
        let image_len = channels * size * size;
        let mut images = vec![0.0; batch_size * image_len];
        let fetched: Vec<Fetched> = images
            .par_chunks_exact_mut(image_len)
            .enumerate()
            .map(|(image, out)| if stopped() { None } else { Some(self.fetch(first + image as u64, size, out)) })
            .collect::<Option<_>>()?;
        let before = known_broken.len();
        let mut classes = Vec::with_capacity(batch_size);
        for image in fetched {
            if let Err(error) = self.note_broken(image.broken, known_broken) {
                return Some(Err(error));
            }
            classes.extend(image.class);
        }
        let broken = known_broken[before..].to_vec();
        Some(Ok(Batch { first, size, channels, images, classes, broken }))
    }

    /// Writes the image shown when `at` images have been seen, or the next one in the order that can be read. There is nothing to
    /// show once the search has met more broken files than the limit bears, or nothing but broken files.
    fn fetch(&self, at: u64, size: usize, out: &mut [f32]) -> Fetched {
        let mirrored = self.config.flip_seed.is_some_and(|seed| is_mirrored(seed, at));
        let mut fetched = Fetched { class: None, broken: Vec::new() };
        let mut met = BTreeSet::new();
        for candidate in at.. {
            let index = self.order.index_at(candidate);
            if met.contains(&index) {
                continue; // the search has run into the next epoch, which may begin with what ended this one
            }
            let write = || self.source.write(index, size, mirrored, out).map_err(|error| error.to_string());
            match guarded(write) {
                Ok(class) => {
                    fetched.class = Some(class as i64);
                    break;
                }
                Err(reason) => fetched.broken.push(BrokenFile { index, name: self.source.name(index), reason }),
            }
            met.insert(index);
            if met.len() > self.config.max_broken_files || met.len() == self.source.len() {
                break;
            }
        }
        fetched
    }

    /// Adds the broken files met for the first time to those known; an error if they are too many.
    fn note_broken(&self, met: Vec<BrokenFile>, known: &mut Vec<BrokenFile>) -> Result<(), DataError> {
        let (limit, images) = (self.config.max_broken_files, self.source.len());
        for file in met {
            if !known.iter().any(|known| known.index == file.index) {
                known.push(file);
            }
            if known.len() > limit || known.len() == images {
                return Err(DataError::TooManyBroken { limit, images, files: std::mem::take(known) });
            }
        }
        Ok(())
    }
}
