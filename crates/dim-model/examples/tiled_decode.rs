//! What decoding in tiles costs in exactness and saves in memory; the figures of `docs/network.md`.
//!
//! `cargo run --release -p dim-model --example tiled_decode -- SIZES HEIGHTxWIDTH whole|tiled|error`, with sizes `kl_f8` or `tiny` and the
//! sides in pixels. `whole` and `tiled` decode once and print the most memory that the process held (Linux), beside what the estimate
//! says; `error` decodes both ways and compares. Each in a process of its own, since the most memory is that of its whole life.
//! Weights are random, of the size that keeps what a layer gives as large as what it gets.

use std::process::ExitCode;
use std::time::Instant;

use dim_model::{Autoencoder, AutoencoderConfig, Tiling};
use dim_torch::Parameters;
use tch::{Device, Kind, Tensor};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let usage = "expected: kl_f8|tiny HEIGHTxWIDTH whole|tiled|error";
    let [sizes, pixels, what] = arguments else { return Err(usage.into()) };
    let config = match sizes.as_str() {
        "kl_f8" => AutoencoderConfig::kl_f8(),
        "tiny" => AutoencoderConfig::tiny(),
        _ => return Err(usage.into()),
    };
    let (height, width) = pixels.split_once('x').ok_or(usage)?;
    let [height, width]: [usize; 2] = [height.parse()?, width.parse()?];
    let _no_grad = tch::no_grad_guard();
    let network = network(&config)?;
    let rate = config.downsampling();
    let shape = [1, config.latent_channels, height / rate, width / rate].map(|side| side as i64);
    let latent = Tensor::f_randn(shape, (Kind::Float, Device::Cpu))?;
    let tiling = Tiling::default();
    let started = Instant::now();
    match what.as_str() {
        "whole" => drop(network.decode(&latent)?),
        "tiled" => drop(network.decode_tiled(&latent, tiling)?),
        "error" => compare(&network.decode(&latent)?, &network.decode_tiled(&latent, tiling)?)?,
        _ => return Err(usage.into()),
    }
    println!("{:.1} s", started.elapsed().as_secs_f64());
    if let Some(bytes) = most_memory() {
        println!("{:.2} GB held at most", bytes as f64 / 1e9);
    }
    println!("{:.2} GB estimated for tiles", config.decode_tiled_bytes(tiling, height, width) as f64 / 1e9);
    Ok(())
}

/// Random weights: as large as keeps the deviation, with norms that change nothing.
fn network(config: &AutoencoderConfig) -> Result<Autoencoder, Failure> {
    tch::manual_seed(5);
    let parameters = Parameters::zeros(&config.parameter_specs(), Device::Cpu)?;
    for (spec, tensor) in parameters.iter() {
        let inputs: i64 = spec.shape.iter().skip(1).product();
        let mut tensor = tensor.shallow_clone();
        match (spec.shape.len(), spec.name.ends_with("weight")) {
            (1, true) => drop(tensor.f_fill_(1.0)?),
            (1, false) => {}
            _ => drop(tensor.f_normal_(0.0, (inputs as f64).powf(-0.5))?),
        }
    }
    let flat = parameters.values(); // without gradients: half the memory
    Ok(Autoencoder::new(config.clone(), Parameters::from_flat(parameters.specs(), flat)?)?)
}

/// Prints how far the tiled image is from the whole one, and how sharp the error's edges are.
fn compare(whole: &Tensor, tiled: &Tensor) -> Result<(), Failure> {
    let error = tiled.f_sub(whole)?;
    let rms = |tensor: &Tensor| -> Result<f64, Failure> {
        Ok(tensor.f_square()?.f_mean(Kind::Double)?.f_sqrt()?.f_double_value(&[])?)
    };
    println!("error {:.2e} of the image, root of the mean square", rms(&error)? / rms(whole)?);
    let largest = error.f_abs()?.f_max()?.f_double_value(&[])?;
    println!("largest {:.2e} of the image's root of the mean square", largest / rms(whole)?);
    for (name, axis) in [("rows", 2), ("columns", 3)] {
        let steps = |image: &Tensor| -> Result<Vec<f64>, Failure> {
            let length = image.size()[axis] - 1;
            let step = image.f_narrow(axis as i64, 1, length)?.f_sub(&image.f_narrow(axis as i64, 0, length)?)?;
            let others: Vec<i64> = (0..4).filter(|other| *other != axis as i64).collect();
            let mut steps =
                Vec::try_from(step.f_square()?.f_mean_dim(others.as_slice(), false, Kind::Double)?.f_sqrt()?)?;
            steps.sort_by(f64::total_cmp);
            Ok(steps)
        };
        let (of_error, of_image) = (steps(&error)?, steps(whole)?);
        let median = |steps: &[f64]| steps[steps.len() / 2];
        println!(
            "between {name}: largest step of the error {:.2} of its median, {:.3} of the image's median step",
            of_error[of_error.len() - 1] / median(&of_error),
            of_error[of_error.len() - 1] / median(&of_image)
        );
    }
    Ok(())
}

/// The most bytes that this process held in memory, where the system tells.
fn most_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
