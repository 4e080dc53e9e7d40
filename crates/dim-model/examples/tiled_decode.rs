//! What decoding in tiles costs in exactness and saves in memory; the figures of `docs/network.md`.
//!
//! `cargo run --release -p dim-model --example tiled_decode -- SIZES HEIGHTxWIDTH whole|tiled|error [DEVICE [WEIGHTS LATENTS]]`, with sizes
//! `kl_f8`, `openmoji` or `tiny`, the sides in pixels, and the device `cpu`, `cuda` or `cuda-bf16`. `whole` and `tiled` decode once and print
//! the most memory that the process held (on a CPU: under Linux), beside what the estimate says; `error` decodes both ways and
//! compares. Each in a process of its own, since the most memory is that of its whole life. Weights are random, of the size that keeps
//! what a layer gives as large as what it gets, and the latent is noise; or both are from files: weights of an autoencoder, and the
//! moments of the first image of a shard that `dim-trainer encode` wrote.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use dim_model::weights::{self, WeightFile};
use dim_model::{Autoencoder, AutoencoderConfig, Precision, Tiling};
use dim_torch::Parameters;
use tch::{Cuda, Device, Kind, Tensor};

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
    let usage = "expected: kl_f8|openmoji|tiny HEIGHTxWIDTH whole|tiled|error [cpu|cuda|cuda-bf16 [WEIGHTS LATENTS]]";
    let (sizes, pixels, what, rest) = match arguments {
        [sizes, pixels, what, rest @ ..] => (sizes, pixels, what, rest),
        _ => return Err(usage.into()),
    };
    let config = match sizes.as_str() {
        "kl_f8" => AutoencoderConfig::kl_f8(),
        // Those of configs/openmoji_autoencoder.toml.
        "openmoji" => AutoencoderConfig { channels: 64, num_res_blocks: 1, ..AutoencoderConfig::kl_f8() },
        "tiny" => AutoencoderConfig::tiny(),
        _ => return Err(usage.into()),
    };
    let (height, width) = pixels.split_once('x').ok_or(usage)?;
    let [height, width]: [usize; 2] = [height.parse()?, width.parse()?];
    let (device, precision) = match rest.first().map(String::as_str) {
        None | Some("cpu") => (Device::Cpu, Precision::F32),
        Some("cuda") => (Device::Cuda(0), Precision::F32),
        Some("cuda-bf16") => (Device::Cuda(0), Precision::Bf16),
        Some(_) => return Err(usage.into()),
    };
    if device.is_cuda() && !dim_torch::cuda::start() {
        return Err("libtorch sees no CUDA device".into());
    }
    let _no_grad = tch::no_grad_guard();
    let rate = config.downsampling();
    let shape = [1, config.latent_channels, height / rate, width / rate].map(|side| side as i64);
    let (network, latent) = match rest {
        [_, weights, latents] => {
            (trained(&config, Path::new(weights), device)?, first_of(Path::new(latents), shape)?.f_to_device(device)?)
        }
        [] | [_] => (random(&config, device)?, Tensor::f_randn(shape, (Kind::Float, device))?),
        _ => return Err(usage.into()),
    };
    let network = network.with_precision(precision);
    if device.is_cuda() {
        dim_torch::cuda::reset_peak_memory(0)?;
    }
    let tiling = Tiling::default();
    let started = Instant::now();
    match what.as_str() {
        "whole" => drop(network.decode(&latent)?),
        "tiled" => drop(network.decode_tiled(&latent, tiling)?),
        "error" => compare(&network.decode(&latent)?, &network.decode_tiled(&latent, tiling)?)?,
        _ => return Err(usage.into()),
    }
    if let Device::Cuda(ordinal) = device {
        Cuda::synchronize(ordinal as i64);
    }
    println!("{:.1} s", started.elapsed().as_secs_f64());
    if let Some(bytes) = most_memory(device)? {
        println!("{:.2} GB held at most", bytes as f64 / 1e9);
    }
    println!("{:.2} GB estimated for tiles", config.decode_tiled_bytes(tiling, height, width) as f64 / 1e9);
    Ok(())
}

/// Random weights: as large as keeps the deviation, with norms that change nothing.
fn random(config: &AutoencoderConfig, device: Device) -> Result<Autoencoder, Failure> {
    tch::manual_seed(5);
    let parameters = Parameters::zeros(&config.parameter_specs(), device)?;
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

fn trained(config: &AutoencoderConfig, path: &Path, device: Device) -> Result<Autoencoder, Failure> {
    let parameters = Parameters::frozen(&config.parameter_specs(), device)?;
    weights::assign_file(&parameters, WeightFile::open(path)?, config.name_table())?;
    Ok(Autoencoder::new(config.clone(), parameters)?)
}

/// The mean of the latent of the first image in a shard.
fn first_of(shard: &Path, [_, channels, height, width]: [i64; 4]) -> Result<Tensor, Failure> {
    let tensors = Tensor::read_safetensors(shard)?;
    let (name, moments) = tensors
        .iter()
        .find(|(_, tensor)| tensor.size().ends_with(&[2 * channels, height, width]))
        .ok_or_else(|| format!("no moments […, {}, {height}, {width}] in {}", 2 * channels, shard.display()))?;
    println!("latent: {name}, the first of {:?}", moments.size());
    let first = moments.f_reshape([-1, 2 * channels, height, width])?.f_narrow(0, 0, 1)?;
    Ok(first.f_narrow(1, 0, channels)?.f_to_kind(Kind::Float)?)
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

/// The most bytes held in the device's memory: of a GPU by tensors, of a CPU by this process, where the system tells.
fn most_memory(device: Device) -> Result<Option<u64>, Failure> {
    if let Device::Cuda(ordinal) = device {
        return Ok(Some(dim_torch::cuda::peak_memory(ordinal)?));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.and_then(|kib| kib.split_whitespace().next()?.parse::<u64>().ok()).map(|kib| kib * 1024))
}
