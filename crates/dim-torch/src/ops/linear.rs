//! A linear map whose weights are kept in one precision and computed with in another.

use tch::{Device, Kind, Tensor};

use super::{Projection, weight_gradient::WeightGradient, with_contiguous_channels};
use crate::{
    TorchError,
    custom_function::{CustomFunction, Forward, apply},
    ffi,
};

/// `x · weightᵀ + bias`, `[…, inputs]` → `[…, outputs]`, in the kind of `x`, which is that of the computed weights.
///
/// Where [`Projection::sum`] of the weight says so, its gradients are added there; those of the bias are autograd's in any case.
///
/// The chain of a conversion and a product would convert every weight in every pass, and keep the copy until backward.
///
/// # Errors
/// Shapes or kinds that do not fit.
pub fn linear(x: &Tensor, weight: Projection, bias: Option<Projection>) -> Result<Tensor, TorchError> {
    let bias_computed = bias.map(|bias| bias.computed.detach());
    if !weight.weight.requires_grad() && bias.is_none_or(|bias| !bias.weight.requires_grad()) {
        return product(x, weight.computed, bias_computed.as_ref());
    }
    let operation =
        Operation { weight: weight.computed.detach(), gradient: WeightGradient::of(&weight), bias: bias_computed };
    let x = with_contiguous_channels(x);
    let tensors: Vec<&Tensor> = [&x, weight.weight].into_iter().chain(bias.as_ref().map(|bias| bias.weight)).collect();
    let output = apply(operation, &tensors)?.into_iter().next();
    output.ok_or_else(|| TorchError::Libtorch("the linear map returned no output".to_owned()))
}

/// Terms that an f32 product sums in one go.
///
/// Of 128, 192, 256, 384, 512, 768 and all, this keeps the golden tensors of every network within their tolerances
/// (3, 1, 5, 11, 13, 15 and 74 of 3,307 miss them on an H200; the one is of the autoencoder's convolutions). Of 64, 128, 192, 384 and all, 1, 0, 0, 2 and 13 of
/// the 468 of DiM-L and DiM-H miss them on a CPU whose MKL sums 384.
const LONGEST_SUM: i64 = 192;

/// `x · weightᵀ + bias`.
///
/// cuBLAS adds the terms of an f32 product one after another, so the error grows with their number; sums of pieces, added at the end, lose less. MKL does so by itself,
/// with pieces whose length depends on the processor. The published tensors are of pieces of 192; where MKL's are as short, it is left to them: any other order of the same terms is as exact, but rounds
/// otherwise than the published values did, whose own rounding is as large as the tolerances (2 of those 468 miss them so on AMD's Zen 5, none with MKL's own pieces).
pub(super) fn product(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, TorchError> {
    let long = x.kind() == Kind::Float && weight.size()[1] > LONGEST_SUM;
    if long && !(x.device() == Device::Cpu && library_sums_pieces()?) {
        in_pieces(x, weight, bias)
    } else {
        Ok(x.f_linear(weight, bias)?)
    }
}

/// Whether libtorch's own products on this CPU sum no more than [`LONGEST_SUM`] terms in one go.
fn library_sums_pieces() -> Result<bool, TorchError> {
    let mut terms = 0;
    // SAFETY: the callee writes one number or returns a message.
    ffi::check(unsafe { ffi::dim_terms_in_one_go(&raw mut terms) })?;
    Ok(terms <= LONGEST_SUM)
}

/// [`product`] as the sum of products of at most [`LONGEST_SUM`] terms, of about the same number each.
fn in_pieces(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor, TorchError> {
    let (outputs, inputs) = weight.size2()?;
    let pieces = (inputs + LONGEST_SUM - 1) / LONGEST_SUM;
    let (x_pieces, weight_pieces) = (x.f_reshape([-1, inputs])?.f_chunk(pieces, 1)?, weight.f_chunk(pieces, 1)?);
    let mut sum = x_pieces[0].f_mm(&weight_pieces[0].f_tr()?)?;
    for (x, weight) in x_pieces.iter().zip(&weight_pieces).skip(1) {
        sum = sum.f_addmm_(x, &weight.f_tr()?)?;
    }
    if let Some(bias) = bias {
        sum = sum.f_add_(bias)?;
    }
    let mut size = x.size();
    if let Some(last) = size.last_mut() {
        *last = outputs;
    }
    Ok(sum.f_reshape(size)?)
}

/// What the node remembers besides `x`: what was computed with, and where the weight's gradient goes.
struct Operation {
    weight: Tensor,
    gradient: WeightGradient,
    bias: Option<Tensor>,
}

impl CustomFunction for Operation {
    const NAME: &'static str = "linear";

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Forward, TorchError> {
        let output = product(&inputs[0], &self.weight, self.bias.as_ref())?;
        Ok(Forward { outputs: vec![output], saved: vec![inputs[0].shallow_clone()] })
    }

    fn backward(
        &self,
        saved: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        needs_gradient: &[bool],
    ) -> Result<Vec<Option<Tensor>>, TorchError> {
        let inputs = 2 + usize::from(self.bias.is_some());
        let Some(Some(grad_out)) = grad_outputs.first() else { return Ok((0..inputs).map(|_| None).collect()) };
        let grad_rows = grad_out.f_reshape([-1, self.weight.size()[0]])?;
        let rows = saved[0].f_reshape([-1, self.weight.size()[1]])?;
        let needs = |index: usize| needs_gradient.get(index).copied().unwrap_or(false);
        let mut gradients = vec![
            needs(0).then(|| grad_rows.f_mm(&self.weight)?.f_view_as(&saved[0])).transpose()?,
            needs(1).then(|| self.gradient.add(&grad_rows, &rows)).transpose()?.flatten(),
        ];
        if self.bias.is_some() {
            let sum = || grad_rows.f_sum_dim_intlist([0_i64].as_slice(), false, Kind::Float);
            gradients.push(needs(2).then(sum).transpose()?);
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Whoever sums, the library or we: small terms beside a larger one vanish only in the same piece.
    #[test]
    fn no_more_terms_than_a_piece_has_are_summed_in_one_go() {
        let inputs = 4 * LONGEST_SUM;
        let x = Tensor::zeros([64, inputs], (Kind::Float, Device::Cpu));
        let _ = x.narrow(1, 0, 1).fill_(1.0);
        let _ = x.narrow(1, LONGEST_SUM, LONGEST_SUM).fill_(2_f64.powi(-25));
        let sums = product(&x, &Tensor::ones([64, inputs], (Kind::Float, Device::Cpu)), None).unwrap();
        assert!((sums - (1.0 + LONGEST_SUM as f64 * 2_f64.powi(-25))).abs().max().double_value(&[]) < 2e-7);
    }

    #[test]
    fn pieces_add_up_to_the_product() {
        tch::manual_seed(4);
        let randn = |size: &[i64]| Tensor::randn(size, (Kind::Float, Device::Cpu));
        // One piece, pieces of one length, and a last one that is shorter.
        for inputs in [LONGEST_SUM, 2 * LONGEST_SUM, 3 * LONGEST_SUM - 1, 1000] {
            let (x, weight, bias) = (randn(&[2, 3, inputs]), randn(&[5, inputs]), randn(&[5]));
            for bias in [Some(&bias), None] {
                let in_f64 = |tensor: &Tensor| tensor.to_kind(Kind::Double);
                let expected = in_f64(&x).linear(&in_f64(&weight), bias.map(in_f64).as_ref());
                let got = in_pieces(&x, &weight, bias).unwrap();
                assert_eq!(got.size(), [2, 3, 5]);
                assert!((in_f64(&got) - expected).abs().max().double_value(&[]) < 1e-4, "{inputs}");
            }
        }
    }
}
