//! How fast images or latents load: opening (and, for OpenMoji, rendering) a source, then what one thread reads and what the loader's
//! batches give.
//!
//! ```text
//! cargo run --release -p dim-data --example load_speed -- 'source = "openmoji"
//! path = "…/openmoji"' 64 2
//! cargo run --release -p dim-data --example load_speed -- made:folder 256 2
//! ```
//!
//! The arguments are a `[data]` table of a configuration, the side in pixels or of the latent, and the number of workers. In place of
//! the table, `made:folder`, `made:webdataset` (500 x 375 pixels, as ImageNet's images mostly are; JPEG), `made:f32`, `made:f16` and
//! `made:bf16` (latents of 4 channels) stand for made-up data in a temporary folder.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dim_data::latents::{Element, Encoding, LatentFolder, LatentsConfig};
use dim_data::sources::{FolderConfig, WebDatasetConfig};
use dim_data::{DataConfig, Loader, LoaderConfig, Order, Source, open_any};
use image::{ImageFormat, Rgb, RgbImage};

/// What is timed lasts about so long.
const SECONDS: f64 = 3.0;
const USAGE: &str = "usage: load_speed DATA_TABLE|made:KIND SIZE WORKERS";
/// Made-up latents, and images.
const LATENTS: usize = 8192;
const IMAGES: u32 = 400;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [table, size, workers] = arguments.as_slice() else { return Err(USAGE.into()) };
    let (size, workers): (usize, usize) = (size.parse()?, workers.parse()?);
    let folder = tempfile::tempdir()?;
    let config = match table.strip_prefix("made:") {
        None => toml::from_str(table)?,
        Some("folder") => made_folder(folder.path())?,
        Some("webdataset") => made_tar(folder.path())?,
        Some("f32") => made_latents(folder.path(), size, Element::F32)?,
        Some("f16") => made_latents(folder.path(), size, Element::F16)?,
        Some("bf16") => made_latents(folder.path(), size, Element::Bf16)?,
        Some(_) => return Err(USAGE.into()),
    };

    let start = Instant::now();
    let source = open_any(&config, size)?;
    println!("opened {} images of {} classes in {:.2?}", source.len(), source.classes().len(), start.elapsed());
    source.notes().iter().for_each(|note| println!("  {note}"));
    println!("{:.0} images/s by one thread", by_one_thread(&*source, size)?);

    let order = Order::new(0, source.len())?;
    let flip_seed = source.can_mirror().then_some(0);
    let config = LoaderConfig { size, workers, flip_seed, max_broken_files: 10, ..LoaderConfig::default() };
    let batch_size = config.batch_size;
    let mut loader = Loader::over(source, order, config)?;
    let (start, mut batches) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < SECONDS {
        let batch = loader.next().ok_or("the loader ended")??;
        batch.broken.iter().for_each(|broken| println!("  skipped {broken}"));
        batches += 1;
    }
    let images_per_second = (batches * batch_size) as f64 / start.elapsed().as_secs_f64();
    println!("{images_per_second:.0} images/s of size {size} with {workers} worker(s), batches of {batch_size}");
    Ok(())
}

fn by_one_thread(source: &dyn Source, size: usize) -> Result<f64, Box<dyn Error>> {
    let mut out = vec![0.0; source.channels() * size * size];
    let (start, order) = (Instant::now(), Order::new(1, source.len())?);
    let mut read = 0;
    while read % 16 != 0 || start.elapsed().as_secs_f64() < SECONDS {
        source.write(order.index_at(read), size, false, &mut out)?;
        read += 1;
    }
    Ok(read as f64 / start.elapsed().as_secs_f64())
}

/// A JPEG of ImageNet's usual size, with enough in it to take about as many bytes.
fn jpeg(number: u32) -> Result<Vec<u8>, Box<dyn Error>> {
    let image = RgbImage::from_fn(500, 375, |x, y| {
        let grain = (x * 7919 + y * 104_729 + number * 31).wrapping_mul(2_654_435_761) >> 27;
        Rgb([((x + number) / 3 + grain) as u8, (y / 2 + grain) as u8, ((x + y) / 5 + grain) as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Jpeg)?;
    Ok(bytes.into_inner())
}

fn made_folder(path: &Path) -> Result<DataConfig, Box<dyn Error>> {
    fs::create_dir(path.join("class"))?;
    for number in 0..IMAGES {
        fs::write(path.join("class").join(format!("{number}.jpg")), jpeg(number)?)?;
    }
    Ok(DataConfig::Folder(FolderConfig { path: path.to_owned() }))
}

fn made_tar(path: &Path) -> Result<DataConfig, Box<dyn Error>> {
    let mut tar = tar::Builder::new(fs::File::create(path.join("0.tar"))?);
    for number in 0..IMAGES {
        for (extension, bytes) in [("jpg", jpeg(number)?), ("cls", b"0".to_vec())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, format!("{number}.{extension}"), bytes.as_slice())?;
        }
    }
    tar.finish()?;
    Ok(DataConfig::WebDataset(WebDatasetConfig { path: path.to_owned(), json_key: None, class_names: None }))
}

fn made_latents(path: &Path, size: usize, element: Element) -> Result<DataConfig, Box<dyn Error>> {
    let (format, version) = Encoding::format();
    let encoding = Encoding {
        format,
        version,
        data: serde_json::Value::Null,
        images: LATENTS,
        classes: vec!["class".into()],
        image_size: 8 * size,
        autoencoder: serde_json::Value::Null,
        scaling_factor: 0.18215,
        latent_channels: 4,
        latent_size: size,
        element,
        mirrored: true,
        images_per_shard: 1024,
    };
    let mut folder = LatentFolder::open(path, encoding.clone())?;
    let moments: Arc<[f32]> = (0..encoding.record_len()).map(|place| (place as f32).sin()).collect();
    for number in 0..encoding.shards() {
        let mut shard = folder.begin(number);
        for _ in encoding.images_of(number) {
            shard.push(0, &[&moments, &moments])?;
        }
        folder.save(&shard)?;
    }
    folder.finish()?;
    Ok(DataConfig::Latents(LatentsConfig { path: path.to_owned() }))
}
