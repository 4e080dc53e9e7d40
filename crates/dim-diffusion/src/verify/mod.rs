//! This crate against reference tensors that the DiM authors' code computed.
//!
//! The reference file holds inputs and outputs under fixed names; every size, seed and list is read from the file, so
//! any file with these names can be checked. Where a network is needed, a closed form stands in for it.

mod closed_form;
mod guidance;
mod noising;
mod reference;
mod sde;
mod solver;
mod tables;
mod upsample;

pub use closed_form::GaussianDenoiser;

use tch::Tensor;

use crate::DiffusionError;
use reference::Reference;

/// One reference tensor, compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Its name in the file.
    pub tensor: String,
    /// The largest difference of an element, absolute (relative for signal-to-noise ratios); infinite if the shapes
    /// differ or a number is not finite.
    pub error: f64,
    /// The largest difference that a correct implementation in f32 may show.
    pub tolerance: f64,
}

impl Check {
    /// Whether the error is within the tolerance.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// Compares schedules, noising, loss, guidance and samplers with a reference file's tensors.
///
/// `tensors` are the file's names and tensors, on the CPU. The result has one entry for each tensor compared. Names
/// that are neither there nor [inputs](is_schedule_input) are not this crate's, or unknown.
///
/// # Errors
/// If a tensor that others need is missing or cannot be used as it is.
pub fn schedule_file(tensors: &[(String, Tensor)]) -> Result<Vec<Check>, DiffusionError> {
    let _no_grad = tch::no_grad_guard();
    let reference = Reference::new(tensors);
    let mut checks = Vec::new();
    tables::stable_diffusion(&reference, &mut checks)?;
    tables::interpolation(&reference, &mut checks)?;
    tables::vp_sde(&reference, &mut checks)?;
    tables::grids(&reference, &mut checks)?;
    noising::latent(&reference, &mut checks)?;
    noising::vp_sde(&reference, &mut checks)?;
    guidance::guidance(&reference, &mut checks)?;
    solver::dpm_solver(&reference, &mut checks)?;
    sde::equations(&reference, &mut checks)?;
    sde::euler_maruyama(&reference, &mut checks)?;
    upsample::upsample(&reference, &mut checks)?;
    Ok(checks)
}

/// Whether a tensor of a schedule file is something that [`schedule_file`] computes from, not something it compares.
pub fn is_schedule_input(name: &str) -> bool {
    const INPUTS: [&str; 18] = [
        "cfg.t",
        "cfg.table",
        "cfg.x",
        "cfg.y",
        "em.mu",
        "em.s",
        "em.x_init",
        "gauss.mu",
        "gauss.s",
        "gauss.x_T",
        "ns.t",
        "sd.skip_pairs",
        "train.n_int",
        "train.x0",
        "vpsde.t",
        "vpsde.train.eps",
        "vpsde.train.t",
        "vpsde.train.x0",
    ];
    let noise_of_a_run = name.starts_with("em.") && name.ends_with(".noise");
    let upsampled = name.strip_prefix("ug.m").and_then(|rest| rest.split_once('.'));
    let of_upsampling = upsampled.is_some_and(|(_, key)| ["pred_high", "pred_low", "t", "x"].contains(&key));
    INPUTS.contains(&name) || of_upsampling || noise_of_a_run || matches!(name, "train.f32.eps" | "train.bf16.eps")
}
