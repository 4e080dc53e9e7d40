//! A convolution and the batch norm behind it, folded into one convolution with a bias.

use dim_torch::{Parameters, TorchError};
use tch::{Device, Kind, Tensor};

/// Added to the variance in every batch norm of the networks here: TensorFlow's, from which all of them come.
const EPS: f64 = 1e-3;

/// Weight and bias, f32 on `device`. Folds in f64: `norm(conv(x)) = conv(x)·s + (b − mean·s)` with `s = w / sqrt(variance + eps)`.
pub(super) fn folded(
    parameters: &Parameters,
    convolution: &str,
    norm: &str,
    device: Device,
) -> Result<(Tensor, Tensor), TorchError> {
    let get = |name: &str| Ok::<_, TorchError>(parameters.get(name)?.detach().to_kind(Kind::Double));
    let of_norm = |part: &str| get(&format!("{norm}.{part}"));
    let scale = of_norm("weight")?.f_div(&of_norm("running_var")?.f_add_scalar(EPS)?.f_sqrt()?)?;
    let weight = get(&format!("{convolution}.weight"))?.f_mul(&scale.f_view([-1, 1, 1, 1])?)?;
    let bias = of_norm("bias")?.f_sub(&of_norm("running_mean")?.f_mul(&scale)?)?;
    let place = |tensor: Tensor| tensor.f_to_kind(Kind::Float)?.f_to_device(device);
    Ok((place(weight)?, place(bias)?))
}
