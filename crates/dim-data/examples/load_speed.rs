//! How fast images load: opening (and, for OpenMoji, rendering) a source, then batches per second.
//!
//! ```text
//! cargo run --release -p dim-data --example load_speed -- 'source = "openmoji"
//! path = "…/openmoji"' 64 2
//! ```
//!
//! The arguments are a `[data]` table of a configuration, the image size in pixels, and the number of workers.

use std::error::Error;
use std::time::Instant;

use dim_data::{DataConfig, Loader, LoaderConfig, Order, open};

const BATCHES: usize = 200;
const USAGE: &str = "usage: load_speed DATA_TABLE IMAGE_SIZE WORKERS";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [table, size, workers] = arguments.as_slice() else { return Err(USAGE.into()) };
    let (config, size, workers): (DataConfig, usize, usize) = (toml::from_str(table)?, size.parse()?, workers.parse()?);

    let start = Instant::now();
    let source = open(&config, size)?;
    println!("opened {} images of {} classes in {:.2?}", source.len(), source.classes().len(), start.elapsed());
    source.notes().iter().for_each(|note| println!("  {note}"));
    let mut counts = vec![0_usize; source.classes().len()];
    let start = Instant::now();
    let loaded = source.len().min(10_000);
    for index in 0..loaded {
        counts[source.load(index, size)?.class] += 1;
    }
    println!("{:.0} images/s decoded by one thread; classes of these:", loaded as f64 / start.elapsed().as_secs_f64());
    for (class, count) in source.classes().iter().zip(&counts) {
        println!("  {count:5} {class}");
    }

    let order = Order::new(0, source.len())?;
    let config = LoaderConfig { size, workers, flip_seed: Some(0), max_broken_files: 10, ..LoaderConfig::default() };
    let batch_size = config.batch_size;
    let mut loader = Loader::new(source, order, config)?;
    let start = Instant::now();
    for batch in loader.by_ref().take(BATCHES) {
        batch?.broken.iter().for_each(|broken| println!("  skipped {broken}"));
    }
    let images_per_second = (BATCHES * batch_size) as f64 / start.elapsed().as_secs_f64();
    println!("{images_per_second:.0} images/s at {size} px with {workers} worker(s), batches of {batch_size}");
    Ok(())
}
