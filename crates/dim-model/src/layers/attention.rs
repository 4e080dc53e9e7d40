//! Multi-head self-attention. Source: Vaswani et al. 2017 (arXiv 1706.03762), section 3.2.

use dim_torch::{Parameters, TorchError};
use tch::{Kind, Tensor};

use super::linear::Linear;

/// `softmax(q kᵀ / √(d_model / heads)) v` in every head, between two linear maps; no mask, no norm of queries and keys.
pub(crate) struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: i64,
}

impl Attention {
    /// The layer whose parameters are `prefix.qkv` and `prefix.proj`. The rows of `qkv` are queries, keys and values, each by head.
    pub(crate) fn new(parameters: &Parameters, prefix: &str, heads: usize, qkv_bias: bool) -> Result<Self, TorchError> {
        let qkv = format!("{prefix}.qkv");
        let qkv = if qkv_bias { Linear::new(parameters, &qkv) } else { Linear::without_bias(parameters, &qkv) }?;
        let proj = Linear::new(parameters, &format!("{prefix}.proj"))?;
        Ok(Self { qkv, proj, heads: i64::try_from(heads).unwrap_or(i64::MAX) })
    }

    /// `[batch, token, d_model]` → the same, computed in `kind`.
    pub(crate) fn forward(&self, x: &Tensor, kind: Kind) -> Result<Tensor, TorchError> {
        let qkv = self.qkv.forward(x, kind)?;
        // The heads of queries, keys and values are views: libtorch's attention reads them where they lie. They are taken apart by
        // one operation, whose gradient joins theirs in one copy, where three selections would each fill all of it with zeros.
        let mut parts =
            qkv.f_unflatten(2, [3, self.heads, -1])?.f_unbind(2)?.into_iter().map(|part| part.f_transpose(1, 2));
        let (Some(q), Some(k), Some(v)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(TorchError::Libtorch("attention needs queries, keys and values".to_owned()));
        };
        let attended = Tensor::f_scaled_dot_product_attention(&q?, &k?, &v?, None::<&Tensor>, 0.0, false, None, false)?;
        self.proj.forward(&attended.f_transpose(1, 2)?.f_flatten(2, 3)?, kind)
    }
}
