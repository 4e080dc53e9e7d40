//! The GPUs that kernels are compiled for.

use std::env;

/// GPUs whose machine code is made from one and the same PTX.
///
/// Most of nvcc's time goes into making PTX, and PTX for the first of a family serves the others as well.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// What the source is compiled for: `__CUDA_ARCH__`.
    pub(crate) ptx: &'static str,
    /// What that is assembled for.
    pub(crate) machines: Vec<&'static str>,
    /// Whether the PTX is embedded too, for the driver to compile on GPUs to come.
    pub(crate) embeds_ptx: bool,
}

const FAMILIES: [(&str, &[&str]); 3] = [("80", &["80", "86", "89"]), ("90a", &["90a"]), ("100", &["100", "120"])];

/// The family whose PTX every newer GPU understands.
const FOR_GPUS_TO_COME: &str = "80";

const VARIABLE: &str = "DIM_CUDA_ARCHS";

/// All families, or what is left of them by `DIM_CUDA_ARCHS`.
pub(crate) fn chosen() -> Result<Vec<Family>, String> {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let text = match env::var(VARIABLE) {
        Err(env::VarError::NotPresent) => return Ok(families(|_| true, true)),
        Err(error) => return Err(format!("{VARIABLE}: {error}")),
        Ok(text) => text,
    };
    let names: Vec<_> = text.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "none").collect();
    let all = || FAMILIES.iter().flat_map(|(_, machines)| machines.iter().copied());
    if let Some(unknown) = names.iter().find(|name| !all().any(|machine| machine == **name)) {
        let all: Vec<_> = all().collect();
        return Err(format!("{VARIABLE}: there is no `{unknown}`; there are {}, and `none`", all.join(", ")));
    }
    Ok(families(|machine| names.contains(&machine), false))
}

fn families(wanted: impl Fn(&str) -> bool, with_ptx: bool) -> Vec<Family> {
    let family = |&(ptx, machines): &(&'static str, &'static [&'static str])| Family {
        ptx,
        machines: machines.iter().copied().filter(|machine| wanted(machine)).collect(),
        embeds_ptx: with_ptx && ptx == FOR_GPUS_TO_COME,
    };
    FAMILIES.iter().map(family).filter(|family| !family.machines.is_empty()).collect()
}
