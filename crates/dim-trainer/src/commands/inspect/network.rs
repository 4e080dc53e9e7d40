//! What a network is and costs, told from its configuration.

use std::collections::BTreeMap;

use dim_model::BackboneConfig;
use dim_torch::ParameterSpec;
use serde_json::json;

use super::report::Report;
use crate::config::Config;
use crate::format::{bytes, thousands};

/// Parameters, cost and memory of the network that `config` describes.
pub(super) fn describe(report: &mut Report, config: &Config) {
    let averages = config.ema.as_ref().map_or(0, |ema| ema.sigma_rel.len() as u64);
    let data_size = config.autoencoder.as_ref().map(|_| config.data_size());
    report.field("config", config);
    let config = &config.model;
    let specs = config.parameter_specs();
    let total = parts(report, &specs);
    let size = config.image_size();
    let cost = config.cost(size, size);
    let tokens = config.tokens(size, size);
    let gmac = |value: u64| format!("{:.3}", value as f64 / 1e9);
    let share = |value: u64| format!("{:.1} %", 100.0 * value as f64 / cost.total() as f64);

    report.line(format_args!(
        "\nfor one input of {} x {size} x {size}{}",
        config.in_channels(),
        data_size.map_or_else(String::new, |size| format!(", the latent of a {size} x {size} image")),
    ));
    let row = |name: &str, value: String| format!("  {name:<42}{value:>14}");
    report.line(row("tokens, conditions and padding included", thousands(tokens as u64)));
    report.line(row("GMAC", gmac(cost.total())) + "  every matrix product of a forward pass");
    for (name, value) in &cost.parts {
        report.line(format_args!("    {name:<40}{:>14}  {:>7}", gmac(*value), share(*value)));
    }
    let cost_parts: BTreeMap<String, u64> = cost.parts.iter().map(|(name, value)| (name.to_string(), *value)).collect();
    report.field("input", [config.in_channels(), size, size]);
    report.field("tokens", tokens);
    report.field("multiply_accumulates", json!({"all": cost.total(), "parts": cost_parts}));

    report.line("\nmemory");
    let mut memory = BTreeMap::new();
    for (name, key, copies) in [
        ("weights in f32", "weights_f32", 4),
        ("weights in bf16", "weights_bf16", 2),
        ("training state (weights, gradients, moments, EMA)", "training_state", 20 + 4 * averages),
    ] {
        report.line(format_args!("  {name:<52}{:>12}", bytes(copies * total)));
        memory.insert(key, copies * total);
    }
    report.field("memory_bytes", memory);
}

/// A line for each part of the network; returns the number of parameters.
pub(super) fn parts(report: &mut Report, specs: &[ParameterSpec]) -> u64 {
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
    report.line(format_args!("\n{:<44}{:>8}  {:>14}", "part", "tensors", "parameters"));
    for part in &order {
        let (tensors, parameters) = parts[part];
        let share = 100.0 * parameters as f64 / total.max(1) as f64;
        report.line(format_args!("{part:<44}{:>8}  {:>14}  {share:>5.1} %", thousands(tensors), thousands(parameters)));
    }
    report.line(format_args!("{:<44}{:>8}  {:>14}", "all", thousands(specs.len() as u64), thousands(total)));
    let part = |name: &String| json!({"name": name, "tensors": parts[name].0, "parameters": parts[name].1});
    report.field("parts", order.iter().map(part).collect::<Vec<_>>());
    report.field("parameters", total);
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
