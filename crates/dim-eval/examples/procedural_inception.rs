//! Writes the Inception network with weights computed from their names, as a file that this program, PyTorch, pytorch-fid and torch-fidelity
//! read: to compare implementations with each other where the trained weights are not at hand. Its distances mean nothing.
//!
//! ```text
//! cargo run --release -p dim-eval --example procedural_inception -- inception.pth
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use dim_eval::features::Inception;
use dim_model::weights::{FileFormat, Naming, save_as};
use tch::{Device, Kind, Tensor};

/// Seed of the weights.
const SEED: u64 = 4106;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path =
        std::env::args_os().nth(1).map(PathBuf::from).ok_or("expected the file to write, such as inception.pth")?;
    let parameters = Inception::procedural_parameters(SEED)?;
    let own = parameters.iter().map(|(spec, tensor)| (spec.name.clone(), tensor.detach()));
    // PyTorch's modules count batches; what is read by them must have the counts.
    let counts = parameters.iter().filter_map(|(spec, _)| {
        let norm = spec.name.strip_suffix(".running_mean")?;
        Some((format!("{norm}.num_batches_tracked"), Tensor::zeros([], (Kind::Int64, Device::Cpu))))
    });
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("pth" | "pt") => FileFormat::PyTorch,
        _ => FileFormat::Safetensors,
    };
    save_as(&path, own.chain(counts), Naming::Ours, format, &BTreeMap::new())?;
    println!("{}", path.display());
    Ok(())
}
