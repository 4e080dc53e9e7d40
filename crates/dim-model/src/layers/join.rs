//! The linear map that joins the stream with a long skip. Source: Bao et al. 2022 (arXiv 2209.12152), section 3.1.

use dim_torch::{
    Derived, Parameters, TorchError,
    ops::{JoinWeights, joined_linear},
};
use tch::{Kind, Tensor};

use super::{linear::Linear, norm::rounds_as_published};

/// The map. There is no bypass: what comes of it replaces the stream.
pub(crate) struct Join {
    form: Form,
    /// The sum of the biases, for the fused operation.
    bias: Derived,
}

enum Form {
    /// Of stream and skip side by side.
    One(Linear),
    /// Of each.
    Two { state: Linear, skip: Linear },
}

impl Join {
    /// One map of stream and skip side by side: `name.weight` `[d_model, 2 d_model]`, `name.bias`.
    pub(crate) fn one(parameters: &Parameters, name: &str) -> Result<Self, TorchError> {
        let bias =
            Derived::new(&[&parameters.get(&format!("{name}.bias"))?], |bias| Ok(bias[0].to_kind(Kind::BFloat16)));
        Ok(Self { form: Form::One(Linear::new(parameters, name)?), bias })
    }

    /// A map of each, whose results are added: `name.state` and `name.skip`.
    pub(crate) fn two(parameters: &Parameters, name: &str) -> Result<Self, TorchError> {
        let [state, skip] = ["state", "skip"].map(|part| format!("{name}.{part}"));
        let [of_state, of_skip] = [&state, &skip].map(|name| parameters.get(&format!("{name}.bias")));
        let bias =
            Derived::new(&[&of_state?, &of_skip?], |biases| Ok(biases[0].f_add(&biases[1])?.to_kind(Kind::BFloat16)));
        let form = Form::Two { state: Linear::new(parameters, &state)?, skip: Linear::new(parameters, &skip)? };
        Ok(Self { form, bias })
    }

    /// Both `[batch, token, d_model]`, the stream in `kind` already; returns the new stream, f32, or on a GPU in bf16 where `kind` is
    /// that: the product's own output, which needs no more digits until something is added.
    pub(crate) fn forward(&self, stream: &Tensor, skip: &Tensor, kind: Kind) -> Result<Tensor, TorchError> {
        if kind != Kind::BFloat16 || rounds_as_published(stream, kind) {
            return self.as_published(stream, skip, kind);
        }
        let skip = skip.to_kind(kind);
        match &self.form {
            Form::One(linear) => {
                let computed = linear.weight().computed(kind)?;
                let weight = linear.weight().projection(&computed);
                let weights = JoinWeights::One { weight, bias: linear.bias_leaf()? };
                joined_linear(stream, &skip, &weights, &self.bias.get()?)
            }
            Form::Two { state, skip: of_skip } => {
                let computed = [state.weight().computed(kind)?, of_skip.weight().computed(kind)?];
                let weights = JoinWeights::Two {
                    weights: [state.weight().projection(&computed[0]), of_skip.weight().projection(&computed[1])],
                    biases: [state.bias_leaf()?, of_skip.bias_leaf()?],
                };
                joined_linear(stream, &skip, &weights, &self.bias.get()?)
            }
        }
    }

    /// With the roundings of the published code.
    fn as_published(&self, stream: &Tensor, skip: &Tensor, kind: Kind) -> Result<Tensor, TorchError> {
        let joined = match &self.form {
            Form::One(linear) => {
                linear.forward(&Tensor::f_cat(&[stream.to_kind(kind), skip.to_kind(kind)], -1)?, kind)?
            }
            Form::Two { state, skip: of_skip } => state.forward(stream, kind)?.f_add(&of_skip.forward(skip, kind)?)?,
        };
        Ok(joined.to_kind(Kind::Float))
    }
}
