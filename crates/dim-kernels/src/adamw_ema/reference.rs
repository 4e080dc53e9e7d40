//! The optimiser as its definition reads: f64, one parameter after the other, over plain slices.
//!
//! The slow truth that every kernel of this op is tested against.

use super::Constants;
use crate::error::KernelError;

/// What a step changes.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// `[parameter]`.
    pub parameters: Vec<f64>,
    /// `[parameter]`.
    pub first_moment: Vec<f64>,
    /// `[parameter]`.
    pub second_moment: Vec<f64>,
    /// `[parameter]`.
    pub ema: Vec<f64>,
}

/// The Euclidean norm of `scale` times the gradients.
#[must_use]
pub fn gradient_norm(gradients: &[f64], scale: f64) -> f64 {
    gradients.iter().map(|gradient| (scale * gradient).powi(2)).sum::<f64>().sqrt()
}

/// One step; with `max_norm`, the gradients are clipped to that norm.
///
/// # Errors
/// [`KernelError::Length`] for a buffer that has not one element for every parameter.
pub fn step(
    constants: &Constants,
    gradients: &[f64],
    max_norm: Option<f64>,
    state: &mut State,
) -> Result<(), KernelError> {
    let expected = state.parameters.len();
    let lengths = [
        ("gradients", gradients.len()),
        ("first_moment", state.first_moment.len()),
        ("second_moment", state.second_moment.len()),
        ("ema", state.ema.len()),
    ];
    if let Some(&(argument, got)) = lengths.iter().find(|&&(_, got)| got != expected) {
        return Err(KernelError::Length { op: "adamw_ema::reference::step", argument, expected, got });
    }
    let Constants { lr, beta1, beta2, eps, weight_decay, ema_decay, gradient_scale, .. } = *constants;
    let norm = gradient_norm(gradients, gradient_scale);
    let clip = max_norm.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
    for (i, gradient) in gradients.iter().enumerate() {
        let g = gradient * gradient_scale * clip;
        let (p, m) = (&mut state.parameters[i], &mut state.first_moment[i]);
        let (v, ema) = (&mut state.second_moment[i], &mut state.ema[i]);
        *p -= lr * weight_decay * *p;
        *m = beta1 * *m + (1.0 - beta1) * g;
        *v = beta2 * *v + (1.0 - beta2) * g * g;
        let (m_hat, v_hat) = (*m / constants.bias_correction(beta1), *v / constants.bias_correction(beta2));
        *p -= lr * m_hat / (v_hat.sqrt() + eps);
        *ema = ema_decay * *ema + (1.0 - ema_decay) * *p;
    }
    Ok(())
}
