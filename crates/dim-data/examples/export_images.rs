//! Writes the images of a source as the network sees them, a PNG each: a reference for `dim-trainer eval`.
//!
//! ```text
//! cargo run --release -p dim-data --example export_images -- configs/openmoji_latents_256.toml 512 real-512
//! ```
//!
//! The arguments are a configuration with a `[data]` table, the side in pixels, and a folder for the images.

use std::error::Error;
use std::fs;
use std::path::Path;

use dim_data::{DataConfig, open};
use image::{ExtendedColorType, save_buffer};
use rayon::prelude::*;

const USAGE: &str = "usage: export_images CONFIG SIZE FOLDER";

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, size, folder] = arguments.as_slice() else { return Err(USAGE.into()) };
    let (size, folder): (usize, &Path) = (size.parse()?, folder.as_ref());
    let table: toml::Table = fs::read_to_string(config)?.parse()?;
    let data = table.get("data").ok_or_else(|| format!("{config} has no table [data]"))?;
    let config: DataConfig = data.clone().try_into()?;
    let source = open(&config, size)?;
    fs::create_dir_all(folder)?;
    (0..source.len()).into_par_iter().try_for_each(|index| {
        let write = || -> Result<(), Box<dyn Error>> {
            let image = source.load(index, size)?.image;
            let colour = if image.channels() == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
            let side = u32::try_from(size)?;
            Ok(save_buffer(folder.join(format!("{index:06}.png")), image.pixels(), side, side, colour)?)
        };
        write().map_err(|error| format!("image {index}: {error}"))
    })?;
    println!("{} images of {size} x {size} pixels in {}", source.len(), folder.display());
    Ok(())
}
