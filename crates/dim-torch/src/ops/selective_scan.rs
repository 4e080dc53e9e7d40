//! The selective scan as a differentiable operation. Source: Gu & Dao 2023 (arXiv 2312.00752), section 3.

use dim_kernels::selective_scan::{self as kernel, SelectiveScan, SelectiveScanGradients};
use tch::{Kind, Tensor};

use super::with_contiguous_channels;
use crate::{
    TokenMap, TorchError,
    bridge::{queue, view, view_mut},
    custom_function::{CustomFunction, Forward, apply},
};

const NAME: &str = "selective_scan";

/// The tensors of a selective scan. `u`, `delta`, `z`: `[batch, token, channel]`; `b`, `c`: `[batch, token, state]`;
/// `a`: `[channel, state]`, the negative matrix A itself; `d`, `delta_bias`: `[channel]`;
/// `initial_state`: `[batch, channel, state]`.
#[derive(Clone, Copy)]
pub struct SelectiveScanInputs<'a> {
    /// Scan input.
    pub u: &'a Tensor,
    /// Step size before bias and softplus.
    pub delta: &'a Tensor,
    /// State matrix A = −exp(a_log).
    pub a: &'a Tensor,
    /// Input projection B.
    pub b: &'a Tensor,
    /// Output projection C.
    pub c: &'a Tensor,
    /// Skip D.
    pub d: Option<&'a Tensor>,
    /// Gate: the output is multiplied by silu(z).
    pub z: Option<&'a Tensor>,
    /// Added to delta before the softplus.
    pub delta_bias: Option<&'a Tensor>,
    /// State before the first step; zero when absent.
    pub initial_state: Option<&'a Tensor>,
    /// Whether delta goes through a softplus.
    pub delta_softplus: bool,
}

/// The scan's output, `[batch, token, channel]` in the tokens' own order; steps follow `token_map`.
///
/// # Errors
/// A shape, type or device that the kernel does not take, named in the error.
pub fn selective_scan(inputs: &SelectiveScanInputs, token_map: Option<&TokenMap>) -> Result<Tensor, TorchError> {
    run(inputs, token_map, false).map(|(out, _)| out)
}

/// As [`selective_scan`], with the state after the last step, `[batch, channel, state]`, differentiable too.
///
/// # Errors
/// As [`selective_scan`].
pub fn selective_scan_with_last_state(
    inputs: &SelectiveScanInputs,
    token_map: Option<&TokenMap>,
) -> Result<(Tensor, Tensor), TorchError> {
    let (out, last_state) = run(inputs, token_map, true)?;
    let last_state = last_state.ok_or_else(|| TorchError::Libtorch("the scan returned no last state".to_owned()))?;
    Ok((out, last_state))
}

fn run(
    inputs: &SelectiveScanInputs,
    token_map: Option<&TokenMap>,
    last_state: bool,
) -> Result<(Tensor, Option<Tensor>), TorchError> {
    let operation = Operation {
        has_d: inputs.d.is_some(),
        has_z: inputs.z.is_some(),
        has_delta_bias: inputs.delta_bias.is_some(),
        has_initial_state: inputs.initial_state.is_some(),
        delta_softplus: inputs.delta_softplus,
        last_state,
        token_map: token_map.cloned(),
    };
    let required = [inputs.u, inputs.delta, inputs.a, inputs.b, inputs.c];
    let optional = [inputs.d, inputs.z, inputs.delta_bias, inputs.initial_state];
    let tensors: Vec<Tensor> =
        required.into_iter().chain(optional.into_iter().flatten()).map(with_contiguous_channels).collect();
    let mut outputs = apply(operation, &tensors.iter().collect::<Vec<_>>())?.into_iter();
    let out = outputs.next().ok_or_else(|| TorchError::Libtorch("the scan returned no output".to_owned()))?;
    Ok((out, outputs.next()))
}

/// What the node remembers besides tensors. The inputs come as a list without holes: the five required ones, then
/// the optional ones that are present.
struct Operation {
    has_d: bool,
    has_z: bool,
    has_delta_bias: bool,
    has_initial_state: bool,
    delta_softplus: bool,
    last_state: bool,
    token_map: Option<TokenMap>,
}

impl Operation {
    /// The list of inputs as a kernel's argument.
    fn scan<'a>(&'a self, tensors: &'a [Tensor]) -> Result<SelectiveScan<'a>, TorchError> {
        let mut rest = tensors.iter();
        let mut next = |argument| {
            let tensor = rest.next().ok_or_else(|| missing(argument))?;
            view(NAME, argument, tensor)
        };
        Ok(SelectiveScan {
            u: next("u")?,
            delta: next("delta")?,
            a: next("a")?,
            b: next("b")?,
            c: next("c")?,
            d: self.has_d.then(|| next("d")).transpose()?,
            z: self.has_z.then(|| next("z")).transpose()?,
            delta_bias: self.has_delta_bias.then(|| next("delta_bias")).transpose()?,
            initial_state: self.has_initial_state.then(|| next("initial_state")).transpose()?,
            delta_softplus: self.delta_softplus,
            token_map: self.token_map.as_ref(),
        })
    }
}

impl CustomFunction for Operation {
    const NAME: &'static str = NAME;

    fn forward(&mut self, inputs: &[Tensor]) -> Result<Forward, TorchError> {
        let scan = self.scan(inputs)?;
        let u = &inputs[0];
        let mut out = Tensor::f_empty(u.size(), (u.kind(), u.device()))?;
        let mut last_state = if self.last_state { Some(empty_state(u, &inputs[2])?) } else { None };
        kernel::forward(
            &queue(u)?,
            &scan,
            view_mut(NAME, "out", &mut out)?,
            last_state.as_mut().map(|state| view_mut(NAME, "last_state", state)).transpose()?,
        )?;
        let saved = inputs.iter().map(Tensor::shallow_clone).collect();
        Ok(Forward { outputs: std::iter::once(out).chain(last_state).collect(), saved })
    }

    fn backward(
        &self,
        saved: &[Tensor],
        grad_outputs: &[Option<Tensor>],
        _needs_gradient: &[bool],
    ) -> Result<Vec<Option<Tensor>>, TorchError> {
        let scan = self.scan(saved)?;
        let u = &saved[0];
        // A loss of the last state alone has no gradient of the output.
        let grad_out = match grad_outputs.first() {
            Some(Some(gradient)) => with_contiguous_channels(gradient),
            _ => Tensor::f_zeros(u.size(), (u.kind(), u.device()))?,
        };
        let grad_last_state = grad_outputs.get(1).and_then(Option::as_ref).map(with_contiguous_channels);
        let grad_last_state = grad_last_state.as_ref().map(|state| view(NAME, "grad_last_state", state)).transpose()?;

        let mut gradients = saved
            .iter()
            .map(|input| Tensor::f_empty(input.size(), (input.kind(), input.device())))
            .collect::<Result<Vec<_>, _>>()?;
        let mut rest = gradients.iter_mut();
        let mut next = |argument| view_mut(NAME, argument, rest.next().ok_or_else(|| missing(argument))?);
        let views = SelectiveScanGradients {
            u: next("grad u")?,
            delta: next("grad delta")?,
            a: next("grad a")?,
            b: next("grad b")?,
            c: next("grad c")?,
            d: self.has_d.then(|| next("grad d")).transpose()?,
            z: self.has_z.then(|| next("grad z")).transpose()?,
            delta_bias: self.has_delta_bias.then(|| next("grad delta_bias")).transpose()?,
            initial_state: self.has_initial_state.then(|| next("grad initial_state")).transpose()?,
        };
        kernel::backward(&queue(u)?, &scan, &view(NAME, "grad_out", &grad_out)?, grad_last_state.as_ref(), views)?;
        Ok(gradients.into_iter().map(Some).collect())
    }
}

fn missing(argument: &'static str) -> TorchError {
    TorchError::Argument { operation: NAME, argument, expected: "present".to_owned(), got: "nothing".to_owned() }
}

/// An unwritten state `[batch, channel, state]`, f32.
fn empty_state(u: &Tensor, a: &Tensor) -> Result<Tensor, TorchError> {
    let wrong = |argument, tensor: &Tensor, expected: &str| TorchError::Argument {
        operation: NAME,
        argument,
        expected: expected.to_owned(),
        got: format!("of shape {:?}", tensor.size()),
    };
    let [batch, _, channel] = u.size()[..] else { return Err(wrong("u", u, "[batch, token, channel]")) };
    let [_, state] = a.size()[..] else { return Err(wrong("a", a, "[channel, state]")) };
    Ok(Tensor::f_empty([batch, channel, state], (Kind::Float, u.device()))?)
}
