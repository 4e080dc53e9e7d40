//! The loader over a source that is made up, so that every fault can be made to happen.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;
use crate::{BrokenFile, Image, Sample};

/// Image `i` has the bytes of `i` as its pixels; some images are broken, and one may make the decoder panic.
#[derive(Default)]
struct Numbered {
    len: usize,
    broken: BTreeSet<usize>,
    panics: Option<usize>,
    loads: AtomicUsize,
    classes: Vec<String>,
}

impl Numbered {
    fn with_broken(len: usize, broken: impl IntoIterator<Item = usize>) -> Arc<Self> {
        Arc::new(Self { len, broken: broken.into_iter().collect(), ..Self::default() })
    }
}

impl ImageSource for Numbered {
    fn len(&self) -> usize {
        self.len
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn channels(&self) -> usize {
        1
    }
    fn name(&self, index: usize) -> String {
        format!("image-{index}")
    }
    fn load(&self, index: usize, size: usize) -> Result<Sample, DataError> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        assert_ne!(self.panics, Some(index), "decoder bug");
        if self.broken.contains(&index) {
            return Err(DataError::BrokenImage { path: self.name(index).into(), reason: "made so".into() });
        }
        let bytes = (index as u64).to_le_bytes().into_iter().cycle().take(size * size).collect();
        Ok(Sample { image: Image::new(size, size, 1, bytes)?, class: index % 7 })
    }
}

fn config(batch_size: usize) -> LoaderConfig {
    LoaderConfig { batch_size, size: 3, flip_seed: Some(1), workers: 2, prefetch_batches: 2, ..LoaderConfig::default() }
}

fn loader(source: &Arc<Numbered>, config: LoaderConfig) -> Loader {
    let order = Order::new(11, source.len).unwrap();
    Loader::new(Arc::clone(source) as Arc<dyn ImageSource>, order, config).unwrap()
}

/// Images and classes of the first `images` images, joined over batches.
fn stream(source: &Arc<Numbered>, config: LoaderConfig, images: usize) -> (Vec<f32>, Vec<i64>) {
    let (mut pixels, mut classes) = (Vec::new(), Vec::new());
    for batch in loader(source, config) {
        let batch = batch.unwrap();
        pixels.extend_from_slice(&batch.images);
        classes.extend_from_slice(&batch.classes);
        if classes.len() >= images {
            break;
        }
    }
    pixels.truncate(images * 9);
    classes.truncate(images);
    (pixels, classes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_comes_out_depends_neither_on_workers_nor_on_batches_nor_on_where_a_run_resumes(
        len in 2_usize..40,
        broken in prop::collection::btree_set(0_usize..40, 0..6),
        (workers, prefetch_batches, batch_size) in (1_usize..5, 1_usize..5, 1_usize..9),
        resume_at in 0_usize..90,
    ) {
        let broken: BTreeSet<usize> = broken.into_iter().filter(|&index| index < len - 1).collect();
        let max_broken_files = broken.len();
        let source = Numbered::with_broken(len, broken);
        let whole = stream(&source, LoaderConfig { workers: 1, max_broken_files, ..config(1) }, 100);
        let other = LoaderConfig {
            workers, prefetch_batches, first: resume_at as u64, max_broken_files, ..config(batch_size)
        };
        let resumed = stream(&source, other, 100 - resume_at);
        prop_assert_eq!(&resumed.0, &whole.0[resume_at * 9..]);
        prop_assert_eq!(&resumed.1, &whole.1[resume_at..]);
    }

    #[test]
    fn a_failure_depends_neither_on_workers_nor_on_prefetching(
        len in 1_usize..30,
        broken in prop::collection::btree_set(0_usize..30, 1..20),
        max_broken_files in 0_usize..10,
        (workers, prefetch_batches) in (1_usize..5, 1_usize..5),
    ) {
        let source = Numbered::with_broken(len, broken);
        let run = |workers, prefetch_batches| -> Vec<String> {
            let config = LoaderConfig { workers, prefetch_batches, max_broken_files, ..config(6) };
            loader(&source, config).take(20).map(|batch| format!("{batch:?}")).collect()
        };
        prop_assert_eq!(run(workers, prefetch_batches), run(1, 1));
    }
}

#[test]
fn batches_follow_the_order_and_tell_where_they_begin() {
    let source = Numbered::with_broken(10, []);
    let order = Order::new(11, 10).unwrap();
    let batches: Vec<Batch> =
        loader(&source, LoaderConfig { first: 7, flip_seed: None, ..config(4) }).take(3).map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(|batch| batch.first).collect::<Vec<_>>(), [7, 11, 15]);
    for batch in &batches {
        assert_eq!((batch.len(), batch.size, batch.channels, batch.images.len()), (4, 3, 1, 4 * 9));
        for i in 0..4 {
            let index = order.index_at(batch.first + i as u64);
            assert_eq!(batch.classes[i], (index % 7) as i64);
            assert_eq!(((batch.image(i).unwrap()[0] + 1.0) * 127.5).round() as usize, index);
        }
        assert!(batch.image(4).is_none());
    }
}

#[test]
fn parts_of_batches_are_the_whole_ones_whatever_their_number() {
    let source = Numbered::with_broken(23, [4]);
    let settings = |part, batch_size| LoaderConfig {
        part,
        max_broken_files: 1,
        first: 5,
        other_sizes: vec![2, 5],
        ..config(batch_size)
    };
    for (batch_size, parts) in [(6, 1), (6, 2), (7, 3), (4, 4)] {
        let mut loaders: Vec<Loader> =
            (0..parts).map(|part| loader(&source, settings((part, parts), batch_size))).collect();
        for whole in loader(&source, settings((0, 1), batch_size)).take(5).map(Result::unwrap) {
            let (mut images, mut classes) = (Vec::new(), Vec::new());
            for part in loaders.iter_mut().map(|loader| loader.next().unwrap().unwrap()) {
                assert_eq!((part.first, part.size), (whole.first + classes.len() as u64, whole.size));
                images.extend(part.images);
                classes.extend(part.classes);
            }
            assert_eq!((images, classes), (whole.images, whole.classes));
        }
    }
    let order = Order::new(11, 23).unwrap();
    for part in [(2, 2), (0, 0), (0, 7)] {
        let error = Loader::new(Arc::clone(&source) as Arc<dyn ImageSource>, order, settings(part, 6)).err().unwrap();
        assert!(error.to_string().contains(&format!("{} of {}, of 6 images", part.0, part.1)), "{error}");
    }
}

#[test]
fn flips_follow_the_place_in_the_run() {
    let source = Numbered::with_broken(300, []);
    let plain = loader(&source, LoaderConfig { flip_seed: None, ..config(32) }).next().unwrap().unwrap();
    let mirrored = loader(&source, LoaderConfig { flip_seed: Some(3), ..config(32) }).next().unwrap().unwrap();
    let mut count = 0;
    for i in 0..32 {
        let (plain, mirrored) = (plain.image(i).unwrap(), mirrored.image(i).unwrap());
        let flip = crate::transform::is_mirrored(3, i as u64);
        count += usize::from(flip);
        for (a, b) in plain.chunks(3).zip(mirrored.chunks(3)) {
            let expected: Vec<f32> = if flip { a.iter().rev().copied().collect() } else { a.to_vec() };
            assert_eq!(b, expected);
        }
    }
    assert!((5..=27).contains(&count), "{count} of 32 flipped");
}

#[test]
fn a_broken_file_is_reported_once_and_replaced_by_the_next_in_the_order() {
    let order = Order::new(11, 6).unwrap();
    let broken = order.index_at(2);
    let source = Numbered::with_broken(6, [broken]);
    let batches: Vec<Batch> =
        loader(&source, LoaderConfig { max_broken_files: 1, ..config(3) }).take(8).map(Result::unwrap).collect();
    let reports: Vec<&BrokenFile> = batches.iter().flat_map(|batch| &batch.broken).collect();
    assert_eq!(reports.len(), 1);
    assert_eq!(batches[0].broken.len(), 1);
    assert_eq!(reports[0].to_string(), format!("image-{broken}: cannot be read as an image: made so"));
    assert_eq!(batches[0].classes[2], (order.index_at(3) % 7) as i64);
    assert_eq!(batches[1].classes[0], (order.index_at(3) % 7) as i64);
}

#[test]
fn too_many_broken_files_end_the_run_with_their_names() {
    let source = Numbered::with_broken(50, 0..20);
    let mut loader = loader(&source, LoaderConfig { max_broken_files: 4, ..config(5) });
    let error = loader.find_map(Result::err).unwrap();
    let DataError::TooManyBroken { limit: 4, images: 50, files } = &error else { panic!("{error}") };
    assert_eq!(files.len(), 5);
    let message = error.to_string();
    assert!(message.starts_with("5 of 50 images cannot be read (max_broken_files = 4):\n  - image-"), "{message}");
    assert!(files.iter().all(|file| message.contains(&file.name)));
    assert!(loader.next().is_none(), "the iterator must end after an error");
}

#[test]
fn a_source_of_broken_files_only_is_an_error_however_high_the_limit() {
    let source = Numbered::with_broken(3, 0..3);
    let error = loader(&source, LoaderConfig { max_broken_files: 1000, ..config(5) }).next().unwrap().unwrap_err();
    assert!(error.to_string().starts_with("3 of 3 images cannot be read"), "{error}");
}

#[test]
fn a_panic_in_a_decoder_counts_as_a_broken_file() {
    let source = Arc::new(Numbered { len: 4, panics: Some(2), ..Numbered::default() });
    let batch = loader(&source, LoaderConfig { max_broken_files: 1, ..config(4) }).next().unwrap().unwrap();
    assert_eq!(batch.broken.len(), 1);
    assert!(batch.broken[0].to_string().starts_with("image-2: the decoder panicked: "), "{}", batch.broken[0]);
}

#[test]
fn no_more_is_made_than_asked_for() {
    let source = Numbered::with_broken(1000, []);
    let mut loader = loader(&source, LoaderConfig { workers: 3, prefetch_batches: 2, ..config(10) });
    loader.next().unwrap().unwrap();
    // One batch was taken and two may be ahead: at most three in all, however long the workers are left alone.
    thread::sleep(std::time::Duration::from_millis(30));
    assert!(source.loads.load(Ordering::Relaxed) <= 30);
}

#[test]
fn a_dropped_loader_leaves_no_thread_behind() {
    let source = Numbered::with_broken(1000, []);
    let mut loader = loader(&source, LoaderConfig { workers: 4, prefetch_batches: 8, ..config(100) });
    loader.next().unwrap().unwrap();
    assert!(Arc::strong_count(&source) > 1);
    drop(loader);
    assert_eq!(Arc::strong_count(&source), 1, "a worker still holds the source");
}

#[test]
fn every_batch_has_one_of_the_sizes_whatever_came_before_it() {
    let source = Numbered::with_broken(50, []);
    let sized = LoaderConfig { other_sizes: vec![5, 2], size_seed: 4, ..config(2) };
    let whole: Vec<Batch> = loader(&source, sized.clone()).take(300).map(Result::unwrap).collect();
    for size in [2, 3, 5] {
        let count = whole.iter().filter(|batch| batch.size == size).count();
        // A third of 300, give or take four deviations of 8.2.
        assert!((67..=133).contains(&count), "{count} of 300 batches have size {size}");
    }
    assert!(whole.iter().all(|batch| batch.images.len() == 2 * batch.size * batch.size));
    let resumed = loader(&source, LoaderConfig { first: 200, workers: 1, ..sized.clone() }).take(200);
    assert!(resumed.map(Result::unwrap).eq(whole[100..].iter().cloned()), "resuming changes what comes");
    let other: Vec<usize> =
        loader(&source, LoaderConfig { size_seed: 5, ..sized }).take(300).map(|batch| batch.unwrap().size).collect();
    assert!(whole.iter().map(|batch| batch.size).ne(other));
}

#[test]
fn numbers_of_zero_and_foreign_orders_are_refused() {
    let source: Arc<dyn ImageSource> = Numbered::with_broken(3, []);
    let order = Order::new(0, 3).unwrap();
    let message = |config, order| Loader::new(Arc::clone(&source), order, config).err().unwrap().to_string();
    assert_eq!(message(config(0), order), "batch size must be at least 1, not 0");
    assert_eq!(
        message(LoaderConfig { size: 0, ..config(1) }, order),
        "image size must be from 1 to 16384 pixels, not 0"
    );
    assert!(message(LoaderConfig { workers: 0, ..config(1) }, order).starts_with("number of data workers"));
    assert!(message(LoaderConfig { prefetch_batches: 0, ..config(1) }, order).starts_with("number of prefetched"));
    assert!(message(config(1), Order::new(0, 4).unwrap()).ends_with("not 4 for 3 images"));
}
