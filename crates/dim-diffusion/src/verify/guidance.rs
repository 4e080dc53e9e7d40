//! Classifier-free guidance: `cfg.*`.

use super::{Check, closed_form::ClassNetwork, reference::Reference};
use crate::{Denoiser, DiffusionError, guidance::ClassifierFreeGuidance};

pub(super) fn guidance(reference: &Reference<'_>, checks: &mut Vec<Check>) -> Result<(), DiffusionError> {
    if !reference.has("cfg.x") {
        return Ok(());
    }
    let network = ClassNetwork { table: reference.get("cfg.table")? };
    let (x, t) = (reference.get("cfg.x")?, reference.get("cfg.t")?);
    let class = reference.get("cfg.y")?;
    let guided = |cfg_scale| ClassifierFreeGuidance::new(&network, cfg_scale)?.predict(x, t, Some(class));
    checks.push(reference.compare("cfg.cond", &guided(1.0)?)?);
    checks.push(reference.compare("cfg.uncond", &guided(0.0)?)?);
    // The reference counts its scale from the conditional prediction.
    for (name, scale) in reference.variants::<f64>("cfg.out_", "") {
        checks.push(reference.compare(name, &guided(1.0 + scale)?)?);
    }
    Ok(())
}
