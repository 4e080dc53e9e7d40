//! Fresh weights, as the published code draws them: PyTorch's defaults, and zeros where a branch or the output ends.

use dim_torch::{ParameterSpec, Parameters};
use tch::{Tensor, no_grad};

use crate::{
    ModelError,
    init::{Init, draw},
};

/// Draws every parameter; each depends on `seed` and its own name alone.
pub(super) fn initialise(parameters: &Parameters, seed: u64) -> Result<(), ModelError> {
    for (spec, tensor) in parameters.iter() {
        let values = draw(rule(spec, parameters)?, spec, seed);
        let fresh = Tensor::from_slice(&values).f_view(spec.shape.as_slice())?;
        no_grad(|| tensor.shallow_clone().f_copy_(&fresh))?;
    }
    Ok(())
}

fn rule(spec: &ParameterSpec, parameters: &Parameters) -> Result<Init, ModelError> {
    let (module, part) = spec.name.rsplit_once('.').unwrap_or(("", &spec.name));
    let is = |name: &str| module == name || module.ends_with(&format!(".{name}"));
    if module == "label_emb" {
        return Ok(Init::Normal(1.0));
    }
    if is("in_layers.0") || is("out_layers.0") || is("norm") || module == "out.0" {
        return Ok(Init::Constant(if part == "weight" { 1.0 } else { 0.0 }));
    }
    // `zero_module`: every branch adds nothing at first, and the first prediction is zero.
    if is("out_layers.3") || is("proj_out") || module == "out.2" {
        return Ok(Init::Constant(0.0));
    }
    // A bias is drawn from the range of its weight.
    let weight = parameters.get(&format!("{module}.weight"))?.size();
    #[allow(clippy::cast_precision_loss)] // sizes of layers are far below 2^53
    let fan_in = weight[1..].iter().product::<i64>() as f64;
    Ok(Init::Uniform(fan_in.powf(-0.5)))
}
