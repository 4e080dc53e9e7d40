//! Every image of a source once, in order, made ahead of time by worker threads: for work that is done on all of them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::decode::guarded;
use crate::source::check_size;
use crate::{BrokenFile, DataError, ImageSource, Pixels, Source};

/// How a pass is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassConfig {
    /// Images in a batch; the last of each range has what is left.
    pub batch_size: usize,
    /// Side of the square images in pixels.
    pub size: usize,
    /// Threads that read and decode; has no influence on what comes out.
    pub workers: usize,
    /// Batches that may be ready or in the making at once.
    pub prefetch_batches: usize,
}

/// Images that follow one another in a source.
#[derive(Debug, Clone, PartialEq)]
pub struct PassBatch {
    /// Their indices in the source; those that could not be read are left out.
    pub indices: Range<usize>,
    /// Pixels in [-1, 1] of the images that could be read, `[image, channel, row, column]`.
    pub images: Vec<f32>,
    /// Their classes.
    pub classes: Vec<usize>,
    /// Those that could not be read.
    pub broken: Vec<BrokenFile>,
}

/// An iterator over batches. Dropping it stops its threads.
pub struct Pass {
    /// `None` once it is being dropped.
    batches: Option<Receiver<PassBatch>>,
    producer: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Pass {
    /// Starts the workers on `ranges` of the source, one after the other; no batch reaches over the end of a range.
    ///
    /// # Errors
    ///
    /// [`DataError::Argument`] if a number of the configuration is 0 or a range is not in the source; [`DataError::WorkersGone`] if the
    /// system gives no threads.
    pub fn new(source: Arc<dyn ImageSource>, ranges: Vec<Range<usize>>, config: PassConfig) -> Result<Self, DataError> {
        check_size(config.size)?;
        for (name, value) in [
            ("batch size", config.batch_size),
            ("number of data workers", config.workers),
            ("number of prefetched batches", config.prefetch_batches),
        ] {
            if value == 0 {
                return Err(DataError::Argument { name, expected: "at least 1", found: "0".into() });
            }
        }
        if let Some(range) = ranges.iter().find(|range| range.start > range.end || range.end > source.len()) {
            let found = format!("{range:?} of {}", source.len());
            return Err(DataError::Argument { name: "ranges", expected: "within the source", found });
        }
        let gone = |reason: String| DataError::WorkersGone { reason };
        let pool = ThreadPoolBuilder::new()
            .num_threads(config.workers)
            .thread_name(|worker| format!("dim-data-{worker}"))
            .build()
            .map_err(|error| gone(error.to_string()))?;
        let (sender, batches) = sync_channel(config.prefetch_batches - 1);
        let stop = Arc::new(AtomicBool::new(false));
        let producer = thread::Builder::new()
            .name("dim-data".into())
            .spawn({
                let stop = Arc::clone(&stop);
                move || produce(&Pixels(source), ranges, &config, &pool, &sender, &stop)
            })
            .map_err(|error| gone(error.to_string()))?;
        Ok(Self { batches: Some(batches), producer: Some(producer), stop })
    }
}

fn produce(
    source: &Pixels,
    ranges: Vec<Range<usize>>,
    config: &PassConfig,
    pool: &ThreadPool,
    sender: &SyncSender<PassBatch>,
    stop: &AtomicBool,
) {
    for range in ranges {
        for first in range.clone().step_by(config.batch_size) {
            let indices = first..(first + config.batch_size).min(range.end);
            let batch = pool.install(|| batch(source, indices, config.size, stop));
            if stop.load(Ordering::Relaxed) || sender.send(batch).is_err() {
                return;
            }
        }
    }
}

fn batch(source: &Pixels, indices: Range<usize>, size: usize, stop: &AtomicBool) -> PassBatch {
    let image_len = source.channels() * size * size;
    let mut images = vec![0.0; indices.len() * image_len];
    let read: Vec<Result<usize, String>> = images
        .par_chunks_exact_mut(image_len)
        .zip(indices.clone())
        .map(|(out, index)| match stop.load(Ordering::Relaxed) {
            true => Err("stopped".into()),
            false => guarded(|| source.write(index, size, false, out).map_err(|error| error.to_string())),
        })
        .collect();
    let (mut classes, mut broken) = (Vec::with_capacity(read.len()), Vec::new());
    for (place, (index, read)) in indices.clone().zip(read).enumerate() {
        match read {
            Ok(class) => {
                // Closes the gaps that broken images leave.
                images.copy_within(place * image_len..(place + 1) * image_len, classes.len() * image_len);
                classes.push(class);
            }
            Err(reason) => broken.push(BrokenFile { index, name: source.name(index), reason }),
        }
    }
    images.truncate(classes.len() * image_len);
    PassBatch { indices, images, classes, broken }
}

impl Iterator for Pass {
    type Item = PassBatch;

    fn next(&mut self) -> Option<PassBatch> {
        self.batches.as_ref()?.recv().ok()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.batches = None; // wakes a producer that waits for room in the channel
        if let Some(producer) = self.producer.take() {
            let _ = producer.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{Image, Sample};

    /// Image `i` is grey `i`; every fifth is broken, and number 13 makes the decoder panic.
    struct Numbered;

    impl ImageSource for Numbered {
        fn len(&self) -> usize {
            23
        }
        fn classes(&self) -> &[String] {
            &[]
        }
        fn channels(&self) -> usize {
            1
        }
        fn name(&self, index: usize) -> String {
            format!("image-{index}")
        }
        fn load(&self, index: usize, size: usize) -> Result<Sample, DataError> {
            assert_ne!(index, 13, "decoder bug");
            if index % 5 == 4 {
                return Err(DataError::BrokenImage { path: self.name(index).into(), reason: "made so".into() });
            }
            Ok(Sample { image: Image::new(size, size, 1, vec![index as u8; size * size])?, class: index % 7 })
        }
    }

    fn pass(ranges: Vec<Range<usize>>, batch_size: usize, workers: usize) -> Result<Pass, DataError> {
        Pass::new(Arc::new(Numbered), ranges, PassConfig { batch_size, size: 2, workers, prefetch_batches: 2 })
    }

    #[test]
    fn every_image_comes_once_in_order_and_broken_ones_are_named() {
        for workers in [1, 3] {
            let batches: Vec<PassBatch> = pass(vec![2..9, 10..23], 4, workers).unwrap().collect();
            let ranges: Vec<_> = batches.iter().map(|batch| batch.indices.clone()).collect();
            assert_eq!(ranges, [2..6, 6..9, 10..14, 14..18, 18..22, 22..23]);
            for batch in &batches {
                let (broken, good): (Vec<_>, Vec<_>) = batch.indices.clone().partition(|&i| i % 5 == 4 || i == 13);
                assert_eq!(batch.broken.iter().map(|broken| broken.index).collect::<Vec<_>>(), broken);
                assert_eq!(batch.classes, good.iter().map(|index| index % 7).collect::<Vec<_>>());
                let shown: Vec<usize> =
                    batch.images.chunks_exact(4).map(|image| ((image[3] + 1.0) * 127.5).round() as usize).collect();
                assert_eq!(shown, good);
            }
        }
    }

    #[test]
    fn a_pass_that_is_dropped_ends_and_wrong_arguments_are_refused() {
        drop(pass(vec![0..9, 9..23], 1, 2).unwrap());
        assert!(pass(vec![0..9, 9..24], 1, 1).is_err());
        assert!(pass(vec![0..9, 9..23], 0, 1).is_err());
        assert_eq!(pass(Vec::new(), 1, 1).unwrap().count(), 0);
    }
}
