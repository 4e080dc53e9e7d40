//! The gradient of a linear map's weight: the product whose result is as large as the parameters.
//!
//! Autograd would have it in the kind of the activations, convert it, and add it to the step's sum: for bf16, 20 bytes written and read
//! an element. The product that adds to the sum itself, in f32, writes and reads 8, and rounds nothing to bf16.

use tch::{Kind, Tensor};

use super::Projection;
use crate::{TorchError, leaf_gradient};

/// What a node remembers of a weight for its gradient.
pub(super) struct WeightGradient {
    /// The leaf, and the sum that its gradients are added to.
    sum: Option<(Tensor, Tensor)>,
}

impl WeightGradient {
    pub(super) fn of(weight: &Projection) -> Self {
        Self { sum: weight.sum.map(|sum| (weight.weight.shallow_clone(), sum.shallow_clone())) }
    }

    /// The gradient of the whole weight.
    ///
    /// - `grad_rows`: `[row, output]`, the gradient of what the map put out
    /// - `rows`: `[row, input]`, what it read
    ///
    /// `[output, input]`, f32, for autograd to add; `None` if it is in the sum already.
    pub(super) fn add(&self, grad_rows: &Tensor, rows: &Tensor) -> Result<Option<Tensor>, TorchError> {
        self.add_columns(&[(grad_rows, rows)])
    }

    /// The same of a weight for inputs that stand side by side, whose gradients are one product each.
    pub(super) fn add_columns(&self, products: &[(&Tensor, &Tensor)]) -> Result<Option<Tensor>, TorchError> {
        let inputs = |index: usize| products[index].1.size()[1];
        match &self.sum {
            Some((leaf, sum)) => {
                let mut first = 0;
                for (index, (grad_rows, rows)) in products.iter().enumerate() {
                    add_product(&sum.f_narrow(1, first, inputs(index))?, &grad_rows.f_tr()?, rows)?;
                    first += inputs(index);
                }
                leaf_gradient::was_added(leaf)?;
                Ok(None)
            }
            None => match products {
                [(grad_rows, rows)] => product(&grad_rows.f_tr()?, rows).map(Some),
                _ => {
                    let parts: Vec<Tensor> = products
                        .iter()
                        .map(|(grad_rows, rows)| product(&grad_rows.f_tr()?, rows))
                        .collect::<Result<_, _>>()?;
                    Ok(Some(Tensor::f_cat(&parts, 1)?))
                }
            },
        }
    }
}

/// `left · right`, f32. Only on a GPU does libtorch multiply bf16 into f32.
fn product(left: &Tensor, right: &Tensor) -> Result<Tensor, TorchError> {
    Ok(if left.kind() != Kind::Float && left.device().is_cuda() {
        left.f_mm_dtype(right, Kind::Float)?
    } else {
        left.f_mm(right)?.f_to_kind(Kind::Float)?
    })
}

/// `sum += left · right`, in place.
fn add_product(sum: &Tensor, left: &Tensor, right: &Tensor) -> Result<(), TorchError> {
    let mut place = sum.shallow_clone();
    let _ = match left.kind() {
        Kind::Float => place.f_addmm_(left, right)?,
        _ if left.device().is_cuda() => sum.f_addmm_dtype_out(sum, left, right, Kind::Float)?,
        _ => place.f_add_(&product(left, right)?)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tch::Device;

    use super::*;
    use crate::{ParameterSpec, Parameters};

    /// Of one product and of two side by side: what autograd is to add, and what is added to the parameters' own sum.
    #[test]
    fn the_sum_of_a_step_gets_what_autograd_would_add() {
        tch::manual_seed(8);
        for kind in [Kind::Float, Kind::BFloat16] {
            let randn = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu)).to_kind(kind);
            let (grad_rows, left, right) = (randn(&[7, 3]), randn(&[7, 4]), randn(&[7, 2]));
            for inputs in [vec![&left], vec![&left, &right]] {
                let products: Vec<(&Tensor, &Tensor)> = inputs.iter().map(|rows| (&grad_rows, *rows)).collect();
                let width = inputs.iter().map(|rows| rows.size()[1]).sum();
                let parameters = Parameters::zeros(&[ParameterSpec::new("w", &[3, width])], Device::Cpu).unwrap();
                let weight = parameters.weight("w").unwrap();
                let computed = weight.computed(kind).unwrap();
                let projection = weight.projection(&computed);

                let own = WeightGradient::of(&Projection { sum: None, ..projection })
                    .add_columns(&products)
                    .unwrap()
                    .unwrap();
                let expected = Tensor::cat(&inputs, 1).to_kind(Kind::Double);
                let expected = grad_rows.to_kind(Kind::Double).tr().mm(&expected);
                let tolerance = if kind == Kind::Float { 1e-5 } else { 0.05 };
                assert!((&own - &expected).abs().max().double_value(&[]) < tolerance, "{kind:?}");

                let told = Arc::new(AtomicU32::new(0));
                let counter = Arc::clone(&told);
                let count = move || {
                    counter.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                };
                leaf_gradient::after_accumulation(weight.leaf(), count).unwrap();
                for times in 1..=2 {
                    assert!(WeightGradient::of(&projection).add_columns(&products).unwrap().is_none());
                    assert_eq!(told.load(Ordering::Relaxed), times, "whoever waits for the gradient is told");
                    let found = weight.leaf().grad();
                    let error = (&found - &own * f64::from(times)).abs().max().double_value(&[]);
                    assert!(error < 1e-5, "{kind:?}, {times} times: {error}");
                }
                assert!(
                    parameters.gradients().unwrap().narrow(0, 0, 3 * width).equal(&weight.leaf().grad().view([-1]))
                );
            }
        }
    }
}
