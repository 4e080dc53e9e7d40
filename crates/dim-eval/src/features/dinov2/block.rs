//! A block of the network: attention and a feed-forward layer, each behind a norm, with a scale a channel on what it adds.

use dim_torch::{Parameters, TorchError};
use tch::{Device, Tensor};

use super::layout::{Dinov2Layout, FeedForward};

/// Added to the variance in every norm.
const EPS: f64 = 1e-6;

/// Weight and bias of a linear map.
pub(super) struct Linear(Tensor, Tensor);

/// A norm over the channels.
pub(super) struct Norm(Tensor, Tensor);

/// The block.
pub(super) struct Block {
    norms: [Norm; 2],
    qkv: Linear,
    proj: Linear,
    feed_forward: FeedForward,
    into: Linear,
    out: Linear,
    scales: [Tensor; 2],
    heads: i64,
}

pub(super) fn place(parameters: &Parameters, name: &str, device: Device) -> Result<Tensor, TorchError> {
    Ok(parameters.get(name)?.detach().f_to_device(device)?)
}

fn pair(parameters: &Parameters, name: &str, device: Device) -> Result<(Tensor, Tensor), TorchError> {
    let part = |part: &str| place(parameters, &format!("{name}.{part}"), device);
    Ok((part("weight")?, part("bias")?))
}

impl Linear {
    fn new(parameters: &Parameters, name: &str, device: Device) -> Result<Self, TorchError> {
        let (weight, bias) = pair(parameters, name, device)?;
        Ok(Self(weight, bias))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        Ok(x.f_linear(&self.0, Some(&self.1))?)
    }
}

impl Norm {
    pub(super) fn new(parameters: &Parameters, name: &str, device: Device) -> Result<Self, TorchError> {
        let (weight, bias) = pair(parameters, name, device)?;
        Ok(Self(weight, bias))
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        Ok(x.f_layer_norm(self.0.size(), Some(&self.0), Some(&self.1), EPS, true)?)
    }
}

impl Block {
    pub(super) fn new(
        parameters: &Parameters,
        layout: &Dinov2Layout,
        number: i64,
        device: Device,
    ) -> Result<Self, TorchError> {
        let name = |part: &str| format!("blocks.{number}.{part}");
        let linear = |part: &str| Linear::new(parameters, &name(part), device);
        let norm = |part: &str| Norm::new(parameters, &name(part), device);
        let scale = |part: &str| place(parameters, &name(part), device);
        let [into, out] = match layout.feed_forward {
            FeedForward::Mlp => ["mlp.fc1", "mlp.fc2"],
            FeedForward::SwiGlu => ["mlp.w12", "mlp.w3"],
        };
        Ok(Self {
            norms: [norm("norm1")?, norm("norm2")?],
            qkv: linear("attn.qkv")?,
            proj: linear("attn.proj")?,
            feed_forward: layout.feed_forward,
            into: linear(into)?,
            out: linear(out)?,
            scales: [scale("ls1.gamma")?, scale("ls2.gamma")?],
            heads: layout.heads(),
        })
    }

    /// `[image, token, channel]` → the same.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        let x = x.f_add(&self.attend(&self.norms[0].forward(x)?)?.f_mul(&self.scales[0])?)?;
        let fed = self.feed(&self.norms[1].forward(&x)?)?;
        Ok(x.f_add(&fed.f_mul(&self.scales[1])?)?)
    }

    fn attend(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        let by_head = self.qkv.forward(x)?.f_unflatten(2, [3, self.heads, -1])?.f_permute([2, 0, 3, 1, 4])?;
        let [q, k, v] = [0, 1, 2].map(|part| by_head.f_select(0, part));
        let attended = Tensor::f_scaled_dot_product_attention(&q?, &k?, &v?, None::<&Tensor>, 0.0, false, None, false)?;
        self.proj.forward(&attended.f_transpose(1, 2)?.f_flatten(2, 3)?)
    }

    fn feed(&self, x: &Tensor) -> Result<Tensor, TorchError> {
        let within = self.into.forward(x)?;
        let within = match self.feed_forward {
            FeedForward::Mlp => within.f_gelu("none")?,
            FeedForward::SwiGlu => {
                let half = within.size()[2] / 2;
                within.f_narrow(2, 0, half)?.f_silu()?.f_mul(&within.f_narrow(2, half, half)?)?
            }
        };
        self.out.forward(&within)
    }
}
