//! Every check of the op's arguments; runs before any pointer is taken.

use super::{Norm, NormModulate, NormModulateGradients, NormModulateOutputs, Upstream};
use crate::check::{Axis, Check};
use crate::device::Queue;
use crate::error::KernelError;
use crate::view::{DType, Layout, TensorView};

/// The sizes that the arguments agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) token: usize,
    pub(super) channel: usize,
    /// Of `y`, `out` and their gradients.
    pub(super) activation: DType,
}

/// The arguments beside the op itself.
pub(super) enum Call<'a> {
    Forward { x: &'a TensorView<'a>, outputs: &'a NormModulateOutputs<'a> },
    Backward { upstream: &'a Upstream<'a>, gradients: &'a NormModulateGradients<'a> },
}

/// Checks a call and returns its sizes: the stream sets them.
pub(super) fn check(queue: &Queue, op: &NormModulate<'_>, call: Call<'_>) -> Result<Sizes, KernelError> {
    let (name, argument, stream) = match call {
        Call::Forward { x, .. } => ("norm_modulate::forward", "x", x),
        Call::Backward { upstream, .. } => ("norm_modulate::backward", "r", upstream.r),
    };
    let check = Check { op: name, queue };

    let [batch, token, channel] = check.sizes(argument, &stream.layout, "[batch, token, channel]")?;
    let sequence = [("batch", batch), ("token", token), ("channel", channel)];
    let (row, vector) = ([("batch", batch), ("channel", channel)], [("channel", channel)]);
    let statistics = [sequence[0], sequence[1], ("mean and inverse deviation", 2)];
    check.input(argument, &stream.layout, &sequence)?;
    check.countable(argument, &sequence)?;

    let branch = op.branch.as_ref();
    let gate = branch.and_then(|branch| branch.gate.as_ref());
    let mut activations = Activations { check: &check, first: None };
    if let Some(branch) = branch {
        check.input("y", &branch.y.layout, &sequence)?;
        activations.add("y", &branch.y.layout)?;
    }
    let inputs: [(_, _, &[Axis]); 5] = [
        ("gate", gate, &row),
        ("weight", op.weight.as_ref(), &vector),
        ("bias", op.bias.as_ref(), &vector),
        ("scale", op.scale.as_ref(), &row),
        ("shift", op.shift.as_ref(), &row),
    ];
    for (argument, view, axes) in inputs {
        check.optional_input(argument, view, axes)?;
        view.map_or(Ok(()), |view| check.f32(argument, &view.layout))?;
    }

    match call {
        Call::Forward { outputs, .. } => {
            if let Some(r) = &outputs.r {
                check.output("outputs.r", &r.layout, &sequence)?;
                check.f32("outputs.r", &r.layout)?;
            }
            if let Some(out) = &outputs.out {
                check.output("outputs.out", &out.layout, &sequence)?;
                activations.add("outputs.out", &out.layout)?;
            }
            if let Some(view) = &outputs.statistics {
                check.output("outputs.statistics", &view.layout, &statistics)?;
                check.f32("outputs.statistics", &view.layout)?;
            }
            activations.stream(argument, &stream.layout)?;
        }
        Call::Backward { upstream, gradients } => {
            if let Some(grad_out) = upstream.grad_out {
                check.input("grad_out", &grad_out.layout, &sequence)?;
                activations.add("grad_out", &grad_out.layout)?;
            }
            match upstream.statistics {
                Some(view) => {
                    check.input("statistics", &view.layout, &statistics)?;
                    check.f32("statistics", &view.layout)?;
                }
                None if op.norm != Norm::None && upstream.grad_out.is_some() => {
                    return Err(KernelError::Absent { op: name, argument: "statistics" });
                }
                None => {}
            }
            if let Some(grad_r) = upstream.grad_r {
                check.input("grad_r", &grad_r.layout, &sequence)?;
            }
            check.optional_gradient("gradients.y", gradients.y.as_ref(), branch.is_some(), &sequence)?;
            gradients.y.as_ref().map_or(Ok(()), |y| activations.add("gradients.y", &y.layout))?;
            check.optional_gradient("gradients.x", gradients.x.as_ref(), true, &sequence)?;
            let of_stream = [
                (argument, Some(&stream.layout)),
                ("grad_r", upstream.grad_r.map(|view| &view.layout)),
                ("gradients.x", gradients.x.as_ref().map(|view| &view.layout)),
            ];
            for (argument, layout) in of_stream {
                layout.map_or(Ok(()), |layout| activations.stream(argument, layout))?;
            }
            let others: [(_, _, _, &[Axis]); 5] = [
                ("gradients.gate", &gradients.gate, gate.is_some(), &row),
                ("gradients.weight", &gradients.weight, op.weight.is_some(), &vector),
                ("gradients.bias", &gradients.bias, op.bias.is_some(), &vector),
                ("gradients.scale", &gradients.scale, op.scale.is_some(), &row),
                ("gradients.shift", &gradients.shift, op.shift.is_some(), &row),
            ];
            for (argument, view, input_is_given, axes) in others {
                check.optional_gradient(argument, view.as_ref(), input_is_given, axes)?;
                view.as_ref().map_or(Ok(()), |view| check.f32(argument, &view.layout))?;
            }
        }
    }
    Ok(Sizes { batch, token, channel, activation: activations.first.unwrap_or(DType::F32) })
}

/// Activations and their gradients are of one dtype, that of the first one.
struct Activations<'a> {
    check: &'a Check<'a>,
    first: Option<DType>,
}

impl Activations<'_> {
    fn add(&mut self, argument: &'static str, layout: &Layout) -> Result<(), KernelError> {
        let dtype = *self.first.get_or_insert(layout.dtype);
        self.check.dtype(argument, layout, dtype, "of one dtype with `y`, `out` and their gradients")
    }

    /// The stream is f32 or as the activations, all of which have been added.
    fn stream(&self, argument: &'static str, layout: &Layout) -> Result<(), KernelError> {
        if layout.dtype == DType::F32 {
            return Ok(());
        }
        let dtype = self.first.unwrap_or(DType::F32);
        self.check.dtype(argument, layout, dtype, "f32, or of one dtype with `y`, `out` and their gradients")
    }
}
