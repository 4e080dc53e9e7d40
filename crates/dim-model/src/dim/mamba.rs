//! The Mamba layer, token-major and along a token map. Source: Gu & Dao 2023 (arXiv 2312.00752), section 3.4.

use dim_torch::{
    Derived, Parameters, TokenMap, TorchError,
    distributed::World,
    ops::{
        CausalConv1dInputs, MambaInputs, MambaKeeps, SelectiveScanInputs, Strip, causal_conv1d, mamba, mamba_of_strip,
        selective_scan,
    },
};
use tch::Tensor;

use super::config::DimConfig;
use crate::{Precision, layers::Linear};

/// One Mamba layer.
pub(crate) struct Mamba {
    a_log: Tensor,
    /// −exp(`a_log`) where the layer is one operation.
    a: Derived,
    d: Tensor,
    in_proj: Linear,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor,
    x_proj: Linear,
    dt_proj: Linear,
    delta_bias: Tensor,
    out_proj: Linear,
    dt_rank: i64,
    d_state: i64,
    keeps: MambaKeeps,
}

impl Mamba {
    /// The layer whose parameters start with `prefix`.
    pub(crate) fn new(parameters: &Parameters, config: &DimConfig, prefix: &str) -> Result<Self, TorchError> {
        let name = |name: &str| format!("{prefix}.{name}");
        let size = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        let a_log = parameters.get(&name("a_log"))?;
        Ok(Self {
            a: Derived::new(&[&a_log], |sources| Ok(sources[0].f_exp()?.f_neg()?)),
            a_log,
            d: parameters.get(&name("d"))?,
            in_proj: Linear::without_bias(parameters, &name("in_proj"))?,
            conv1d_weight: parameters.get(&name("conv1d.weight"))?,
            conv1d_bias: parameters.get(&name("conv1d.bias"))?,
            x_proj: Linear::without_bias(parameters, &name("x_proj"))?,
            dt_proj: Linear::without_bias(parameters, &name("dt_proj"))?,
            delta_bias: parameters.get(&name("dt_proj.bias"))?,
            out_proj: Linear::without_bias(parameters, &name("out_proj"))?,
            dt_rank: size(config.dt_rank()),
            d_state: size(config.d_state),
            keeps: MambaKeeps::default(),
        })
    }

    /// Chooses what is kept for backward where the layer is one operation.
    pub(crate) fn set_keeps(&mut self, keeps: MambaKeeps) {
        self.keeps = keeps;
    }

    /// The layer by kernels that take bf16 and choose themselves what backward keeps.
    fn as_one_operation(&self, input: &Tensor, token_map: &TokenMap) -> Result<Tensor, TorchError> {
        self.with_inputs(input, |inputs| mamba(inputs, Some(token_map), self.keeps))
    }

    /// As [`Self::forward`] of this process's part of a sequence that is split over all of `world`.
    pub(crate) fn forward_of_strip(
        &self,
        input: &Tensor,
        strip: &Strip,
        world: &World,
        precision: Precision,
    ) -> Result<Tensor, TorchError> {
        self.with_inputs(&input.to_kind(precision.kind()), |inputs| mamba_of_strip(inputs, strip, world, self.keeps))
    }

    /// What `f` makes of the layer's tensors and `input`, all in the input's kind.
    fn with_inputs<T>(
        &self,
        input: &Tensor,
        f: impl FnOnce(&MambaInputs) -> Result<T, TorchError>,
    ) -> Result<T, TorchError> {
        let linears = [&self.in_proj, &self.x_proj, &self.dt_proj, &self.out_proj].map(Linear::weight);
        let computed: Vec<Tensor> =
            linears.iter().map(|weight| weight.computed(input.kind())).collect::<Result<_, _>>()?;
        let projection = |index: usize| linears[index].projection(&computed[index]);
        let inputs = MambaInputs {
            input,
            in_proj: projection(0),
            conv_weight: &self.conv1d_weight,
            conv_bias: &self.conv1d_bias,
            x_proj: projection(1),
            dt_proj: projection(2),
            delta_bias: &self.delta_bias,
            a_log: &self.a_log,
            a: &self.a.get()?,
            d: &self.d,
            out_proj: projection(3),
        };
        f(&inputs)
    }

    /// `[batch, token, d_model]` → the same, in the kind of `precision`; convolution and scan walk along `token_map`.
    pub(crate) fn forward(
        &self,
        input: &Tensor,
        token_map: &TokenMap,
        precision: Precision,
    ) -> Result<Tensor, TorchError> {
        let kind = precision.kind();
        if precision == Precision::Bf16 {
            return self.as_one_operation(&input.to_kind(kind), token_map);
        }
        // Both leave a tensor that is of the kind already as it is.
        let to_kernel = |tensor: &Tensor| tensor.to_kind(precision.kernel_kind());
        let from_kernel = |tensor: Tensor| tensor.to_kind(kind);
        let xz = self.in_proj.forward(input, kind)?;
        let halves = xz.f_chunk(2, -1)?;
        let [x, z] = &halves[..] else {
            return Err(TorchError::Libtorch(format!("in_proj gave {} halves", halves.len())));
        };
        let u = causal_conv1d(
            &CausalConv1dInputs {
                x: &to_kernel(x),
                weight: &self.conv1d_weight,
                bias: Some(&self.conv1d_bias),
                silu: true,
            },
            Some(token_map),
        )?;
        let u = from_kernel(u);
        // One product gives the step size's low-rank form, B and C; the scan reads them where they lie.
        let projected = self.x_proj.forward(&u, kind)?;
        let delta = self.dt_proj.forward(&projected.f_narrow(-1, 0, self.dt_rank)?, kind)?;
        let b = projected.f_narrow(-1, self.dt_rank, self.d_state)?;
        let c = projected.f_narrow(-1, self.dt_rank + self.d_state, self.d_state)?;
        let a = self.a_log.f_exp()?.f_neg()?;
        let y = selective_scan(
            &SelectiveScanInputs {
                u: &to_kernel(&u),
                delta: &to_kernel(&delta),
                a: &a,
                b: &to_kernel(&b),
                c: &to_kernel(&c),
                d: Some(&self.d),
                z: Some(&to_kernel(z)),
                delta_bias: Some(&self.delta_bias),
                initial_state: None,
                delta_softplus: true,
            },
            Some(token_map),
        )?;
        self.out_proj.forward(&from_kernel(y), kind)
    }
}
