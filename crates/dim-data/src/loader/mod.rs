//! Batches in order, made ahead of time by worker threads.

mod batch;
mod recipe;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rayon::{ThreadPool, ThreadPoolBuilder};

pub use batch::Batch;

use self::recipe::Recipe;
use crate::mix::{absorb, below};
use crate::source::check_size;
use crate::{DataError, ImageSource, Order, Pixels, Source};

/// How batches are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Images in a batch.
    pub batch_size: usize,
    /// Which part of every batch to make, and of how many: several processes make a batch together. Parts differ by one image at most.
    pub part: (usize, usize),
    /// Side of the square images in pixels, or of latents.
    pub size: usize,
    /// Further sides: each batch has one of all, drawn evenly. Which one is a function of `size_seed` and of where the batch begins.
    pub other_sizes: Vec<usize>,
    /// Seed of the batches' sizes.
    pub size_seed: u64,
    /// Images that the run has seen already: 0, or what a checkpoint says.
    pub first: u64,
    /// Seed of random left-right flips; `None` leaves every image as it is.
    pub flip_seed: Option<u64>,
    /// Threads that read and decode; has no influence on what comes out.
    pub workers: usize,
    /// Batches that may be ready or in the making at once; bounds memory, and has no influence on what comes out.
    pub prefetch_batches: usize,
    /// Broken files to bear before giving up; 0 makes the first one an error.
    pub max_broken_files: usize,
}

impl Default for LoaderConfig {
    /// 64 images of 32 pixels from the start, unflipped; a worker for every core, 4 batches ahead, no broken file borne.
    fn default() -> Self {
        Self {
            batch_size: 64,
            part: (0, 1),
            size: 32,
            other_sizes: Vec::new(),
            size_seed: 0,
            first: 0,
            flip_seed: None,
            workers: thread::available_parallelism().map_or(1, usize::from),
            prefetch_batches: 4,
            max_broken_files: 0,
        }
    }
}

/// Separates the hashes of the sizes from those of other uses of the same seed.
const SIZE_DOMAIN: u64 = 0x7369_7A65_0000_0001;

impl LoaderConfig {
    /// Side of the images of the batch that begins when `first` images have been seen.
    fn size_at(&self, first: u64) -> usize {
        let key = absorb(absorb(SIZE_DOMAIN, self.size_seed), first);
        match below(key, self.other_sizes.len() as u64 + 1) {
            0 => self.size,
            other => self.other_sizes[other as usize - 1],
        }
    }

    /// The places in a batch of the images to make.
    fn own(&self) -> Range<usize> {
        let (part, parts) = self.part;
        self.batch_size * part / parts..self.batch_size * (part + 1) / parts
    }

    fn check(&self) -> Result<(), DataError> {
        check_size(self.size)?;
        self.other_sizes.iter().try_for_each(|&size| check_size(size))?;
        for (name, value) in [
            ("batch size", self.batch_size),
            ("number of data workers", self.workers),
            ("number of prefetched batches", self.prefetch_batches),
        ] {
            if value == 0 {
                return Err(DataError::Argument { name, expected: "at least 1", found: "0".into() });
            }
        }
        let (part, parts) = self.part;
        if part >= parts || parts > self.batch_size {
            return Err(DataError::Argument {
                name: "part of each batch",
                expected: "below the number of parts, and no more parts than images",
                found: format!("{part} of {parts}, of {} images", self.batch_size),
            });
        }
        Ok(())
    }
}

/// An endless iterator over batches.
///
/// Each batch is the configured part of a whole one. Image `i` of what begins at `first` is what the order shows when `first + i` images have been seen. If it cannot
/// be read, the next image in the order that can be read stands in for it (with its own class, and the flip of the place),
/// and [`Batch::broken`] names the file. So what comes out is a function of source, order and `first`: not of the number of
/// workers, and not of where a run was stopped and resumed.
///
/// When more than `max_broken_files` different files have been found broken, or all of them, the next item is
/// [`DataError::TooManyBroken`], and the iterator ends. The count begins anew with each loader.
///
/// Dropping the loader stops its threads; each finishes at most the image that it is at.
pub struct Loader {
    /// `None` once the loader is being dropped.
    batches: Option<Receiver<Result<Batch, DataError>>>,
    producer: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    failed: bool,
}

impl Loader {
    /// Starts the workers over a source of images.
    ///
    /// # Errors
    ///
    /// As [`Loader::over`].
    pub fn new(source: Arc<dyn ImageSource>, order: Order, config: LoaderConfig) -> Result<Self, DataError> {
        Self::over(Arc::new(Pixels(source)), order, config)
    }

    /// Starts the workers over any source.
    ///
    /// # Errors
    ///
    /// [`DataError::Argument`] if a number of the configuration is 0, `order` is for another number of images than the source has,
    /// or images are to be flipped that have no mirror images; [`DataError::WorkersGone`] if the system gives no threads.
    pub fn over(source: Arc<dyn Source>, order: Order, config: LoaderConfig) -> Result<Self, DataError> {
        config.check()?;
        if config.flip_seed.is_some() && !source.can_mirror() {
            return Err(DataError::Argument {
                name: "random flips",
                expected: "off for data that hold no mirror images",
                found: "on".into(),
            });
        }
        if order.len() != source.len() {
            return Err(DataError::Argument {
                name: "order",
                expected: "an order over as many images as the source has",
                found: format!("{} for {} images", order.len(), source.len()),
            });
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(config.workers)
            .thread_name(|worker| format!("dim-data-{worker}"))
            .build()
            .map_err(|error| DataError::WorkersGone { reason: error.to_string() })?;
        // One batch is in the making beside those that wait in the channel.
        let (sender, batches) = sync_channel(config.prefetch_batches - 1);
        let stop = Arc::new(AtomicBool::new(false));
        let recipe = Recipe { source, order, config };
        let producer = thread::Builder::new()
            .name("dim-data".into())
            .spawn({
                let stop = Arc::clone(&stop);
                move || produce(&recipe, &pool, &sender, &stop)
            })
            .map_err(|error| DataError::WorkersGone { reason: error.to_string() })?;
        Ok(Self { batches: Some(batches), producer: Some(producer), stop, failed: false })
    }
}

/// Makes batch after batch until one fails or nobody wants another.
fn produce(recipe: &Recipe, pool: &ThreadPool, sender: &SyncSender<Result<Batch, DataError>>, stop: &AtomicBool) {
    let stopped = || stop.load(Ordering::Relaxed);
    let mut first = recipe.config.first;
    let mut known_broken = Vec::new();
    while let Some(batch) = pool.install(|| recipe.batch(first, &mut known_broken, &stopped)) {
        let failed = batch.is_err();
        if sender.send(batch).is_err() || failed {
            break;
        }
        first += recipe.config.batch_size as u64;
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = self.batches.as_ref()?.recv().unwrap_or_else(|_| {
            Err(DataError::WorkersGone { reason: "the thread that makes batches ended without being told to".into() })
        });
        self.failed = batch.is_err();
        Some(batch)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.batches = None; // wakes a producer that waits for room in the channel
        if let Some(producer) = self.producer.take() {
            // A panic in it has been told by `next`, or concerns nobody any more.
            let _ = producer.join();
        }
    }
}
