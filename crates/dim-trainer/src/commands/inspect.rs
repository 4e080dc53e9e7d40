//! `dim-trainer inspect`: what a network is and costs, told from its configuration alone; nothing of its size is allocated.

use std::collections::BTreeMap;
use std::path::Path;

use dim_model::BackboneConfig;
use dim_model::weights::WeightFile;
use dim_torch::ParameterSpec;

use crate::cli::InspectArgs;
use crate::config::Config;
use crate::error::TrainerError;
use crate::format::{bytes, thousands};
use crate::run_folder::RunFolder;
use crate::snapshot;
use crate::train::checkpoint;

pub(super) fn run(arguments: InspectArgs) -> Result<u8, TrainerError> {
    let InspectArgs { config, weights, run, set } = arguments;
    if let Some(path) = config {
        print_network(&Config::load(&path, &set)?);
    }
    if let Some(path) = weights {
        inspect_weights(&path)?;
    }
    if let Some(path) = run {
        inspect_run(&RunFolder::new(path))?;
    }
    Ok(0)
}

fn inspect_weights(path: &Path) -> Result<(), TrainerError> {
    let file = WeightFile::open(path)?;
    let specs: Vec<ParameterSpec> =
        file.entries().iter().map(|entry| ParameterSpec::new(entry.name.clone(), &entry.shape)).collect();
    println!("{}: {} tensors", path.display(), thousands(specs.len() as u64));
    match snapshot::config_of(&file)? {
        Some(config) => print_network(&config),
        None => {
            print_parts(&specs);
            println!("\nThe file carries no configuration; `inspect --config` shows token counts and costs.");
        }
    }
    Ok(())
}

fn inspect_run(run: &RunFolder) -> Result<(), TrainerError> {
    let config = Config::load(&run.config(), &[])?;
    print_network(&config);
    println!("\ncheckpoints");
    let checkpoints = checkpoint::list(run)?;
    for path in &checkpoints {
        match checkpoint::about::<Config>(path) {
            Ok(about) => println!(
                "  {}: step {}, {} of {} images, good",
                path.display(),
                thousands(about.step),
                thousands(about.images_seen),
                thousands(config.train.images)
            ),
            Err(error) => println!("  {error}"),
        }
    }
    if checkpoints.is_empty() {
        println!("  none");
    }
    Ok(())
}

fn print_network(config: &Config) {
    let averages = config.ema.as_ref().map_or(0, |ema| ema.sigma_rel.len() as u64);
    let (config, data_size) = (&config.model, config.autoencoder.as_ref().map(|_| config.data_size()));
    let specs = config.parameter_specs();
    let total = print_parts(&specs);
    let size = config.image_size();
    let cost = config.cost(size, size);
    let gmac = |value: u64| format!("{:.3}", value as f64 / 1e9);
    let share = |value: u64| format!("{:.1} %", 100.0 * value as f64 / cost.total() as f64);

    println!(
        "\nfor one input of {} x {size} x {size}{}",
        config.in_channels(),
        data_size.map_or_else(String::new, |size| format!(", the latent of a {size} x {size} image")),
    );
    println!("  {:<42}{:>14}", "tokens, conditions and padding included", thousands(config.tokens(size, size) as u64));
    println!("  {:<42}{:>14}  every matrix product of a forward pass", "GMAC", gmac(cost.total()));
    for (name, value) in &cost.parts {
        println!("    {name:<40}{:>14}  {:>7}", gmac(*value), share(*value));
    }

    println!("\nmemory");
    for (name, copies) in [
        ("weights in f32", 4),
        ("weights in bf16", 2),
        ("training state (weights, gradients, moments, EMA)", 20 + 4 * averages),
    ] {
        println!("  {name:<52}{:>12}", bytes(copies * total));
    }
}

/// A line for each part of the network; returns the number of parameters.
fn print_parts(specs: &[ParameterSpec]) -> u64 {
    let mut order = Vec::new();
    let mut parts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for spec in specs {
        let part = part_of(&spec.name);
        if !parts.contains_key(&part) {
            order.push(part.clone());
        }
        let (tensors, parameters) = parts.entry(part).or_default();
        *tensors += 1;
        *parameters += spec.elements() as u64;
    }
    let total: u64 = parts.values().map(|(_, parameters)| parameters).sum();
    println!("\n{:<44}{:>8}  {:>14}", "part", "tensors", "parameters");
    for part in order {
        let (tensors, parameters) = parts[&part];
        let share = 100.0 * parameters as f64 / total.max(1) as f64;
        println!("{part:<44}{:>8}  {:>14}  {share:>5.1} %", thousands(tensors), thousands(parameters));
    }
    println!("{:<44}{:>8}  {:>14}", "all", thousands(specs.len() as u64), thousands(total));
    total
}

/// A parameter's name without its last part, block numbers as `*`: `blocks.7.mamba.x_proj.weight` is in `blocks.*.mamba.x_proj`.
fn part_of(name: &str) -> String {
    let parts: Vec<&str> =
        name.split('.').map(|part| if part.bytes().all(|byte| byte.is_ascii_digit()) { "*" } else { part }).collect();
    match parts.as_slice() {
        [section @ .., "weight" | "bias"] => section.join("."),
        all => all.join("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_all_blocks_make_one_part() {
        assert_eq!(part_of("blocks.7.mamba.x_proj.weight"), "blocks.*.mamba.x_proj");
        assert_eq!(part_of("blocks.12.mamba.a_log"), "blocks.*.mamba.a_log");
        assert_eq!(part_of("position_table"), "position_table");
    }
}
