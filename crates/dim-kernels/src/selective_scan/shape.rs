//! Every check of the selective scan's arguments; runs before any pointer is taken.

use super::{SelectiveScan, SelectiveScanGradients, cuda};
use crate::check::Check;
use crate::device::Queue;
use crate::error::KernelError;
use crate::view::{Layout, TensorView, TensorViewMut};

/// The sizes that the arguments agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) batch: usize,
    pub(super) token: usize,
    pub(super) channel: usize,
    pub(super) state: usize,
}

/// The arguments beside the scan itself.
pub(super) enum Call<'a> {
    Forward {
        out: &'a TensorViewMut<'a>,
        last_state: Option<&'a TensorViewMut<'a>>,
    },
    Backward {
        grad_out: &'a TensorView<'a>,
        grad_last_state: Option<&'a TensorView<'a>>,
        gradients: &'a SelectiveScanGradients<'a>,
    },
    /// None: what a scan in segments would be.
    Segments,
    Walk {
        states: &'a TensorViewMut<'a>,
        deltas: &'a TensorViewMut<'a>,
    },
    WalkBack {
        grad_out: &'a TensorView<'a>,
        grad_states: &'a TensorViewMut<'a>,
        deltas: &'a TensorViewMut<'a>,
    },
    AfterWalk {
        out: &'a TensorViewMut<'a>,
        states: &'a TensorViewMut<'a>,
        deltas: &'a TensorView<'a>,
    },
}

impl Call<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Forward { .. } => "selective_scan::forward",
            Self::Backward { .. } => "selective_scan::backward",
            Self::Segments => "selective_scan::segments",
            Self::Walk { .. } => "selective_scan::walk",
            Self::WalkBack { .. } => "selective_scan::walk_back",
            Self::AfterWalk { .. } => "selective_scan::forward_after_walk",
        }
    }
}

/// Segments of a sequence that is walked before its first state is known; the CPU has one.
pub(super) fn segments(queue: &Queue, sizes: Sizes) -> usize {
    match queue {
        Queue::Cpu => 1,
        Queue::Cuda { .. } => cuda::segments(sizes),
    }
}

/// Checks a call and returns its sizes: `u` sets batch, token and channel, `a` sets state.
pub(super) fn check(queue: &Queue, scan: &SelectiveScan<'_>, call: Call<'_>) -> Result<Sizes, KernelError> {
    let op = call.name();
    let check = Check { op, queue };

    let [batch, token, channel] = check.sizes("u", &scan.u.layout, "[batch, token, channel]")?;
    let [_, state] = check.sizes("a", &scan.a.layout, "[channel, state]")?;
    let sequence = [("batch", batch), ("token", token), ("channel", channel)];
    let matrix = [("batch", batch), ("token", token), ("state", state)];
    let states = [("batch", batch), ("channel", channel), ("state", state)];
    let a = [("channel", channel), ("state", state)];
    let vector = [("channel", channel)];

    check.input("u", &scan.u.layout, &sequence)?;
    check.input("delta", &scan.delta.layout, &sequence)?;
    check.input("a", &scan.a.layout, &a)?;
    if state == 0 {
        return Err(KernelError::Empty { op, argument: "a", axis: "state" });
    }
    check.input("b", &scan.b.layout, &matrix)?;
    check.input("c", &scan.c.layout, &matrix)?;
    check.optional_input("d", scan.d.as_ref(), &vector)?;
    check.optional_input("z", scan.z.as_ref(), &sequence)?;
    check.optional_input("delta_bias", scan.delta_bias.as_ref(), &vector)?;
    check.optional_input("initial_state", scan.initial_state.as_ref(), &states)?;
    check.token_map(scan.token_map, token)?;
    check.countable("u", &sequence)?;
    check.kernel_exists("a", ("state", state), &cuda::STATES)?;
    dtypes(&check, scan, &call)?;

    let sizes = Sizes { batch, token, channel, state };
    match call {
        Call::Forward { out, last_state } => {
            check.output("out", &out.layout, &sequence)?;
            if let Some(last_state) = last_state {
                check.output("last_state", &last_state.layout, &states)?;
            }
        }
        Call::Backward { grad_out, grad_last_state, gradients } => {
            check.input("grad_out", &grad_out.layout, &sequence)?;
            check.optional_input("grad_last_state", grad_last_state, &states)?;
            check.output("gradients.u", &gradients.u.layout, &sequence)?;
            check.output("gradients.delta", &gradients.delta.layout, &sequence)?;
            check.output("gradients.a", &gradients.a.layout, &a)?;
            check.output("gradients.b", &gradients.b.layout, &matrix)?;
            check.output("gradients.c", &gradients.c.layout, &matrix)?;
            let given = scan.d.is_some();
            check.optional_gradient("gradients.d", gradients.d.as_ref(), given, &vector)?;
            let given = scan.z.is_some();
            check.optional_gradient("gradients.z", gradients.z.as_ref(), given, &sequence)?;
            let given = scan.delta_bias.is_some();
            check.optional_gradient("gradients.delta_bias", gradients.delta_bias.as_ref(), given, &vector)?;
            let given = scan.initial_state.is_some();
            check.optional_gradient("gradients.initial_state", gradients.initial_state.as_ref(), given, &states)?;
        }
        Call::Segments => in_segments(&check, sizes, None)?,
        Call::Walk { states, deltas } => {
            in_segments(&check, sizes, Some((("states", &states.layout), &deltas.layout)))?;
        }
        Call::WalkBack { grad_out, grad_states, deltas } => {
            check.input("grad_out", &grad_out.layout, &sequence)?;
            in_segments(&check, sizes, Some((("grad_states", &grad_states.layout), &deltas.layout)))?;
        }
        Call::AfterWalk { out, states, deltas } => {
            check.output("out", &out.layout, &sequence)?;
            in_segments(&check, sizes, Some((("states", &states.layout), &deltas.layout)))?;
        }
    }
    Ok(sizes)
}

/// Refuses a sequence that a GPU cannot cut, and what is known of segments in another form than `[batch · segment, channel(, state)]`.
fn in_segments(
    check: &Check<'_>,
    sizes: Sizes,
    known: Option<((&'static str, &Layout), &Layout)>,
) -> Result<(), KernelError> {
    check.at_least("u", ("token", sizes.token), cuda::LEAST_WALKED_TOKENS)?;
    let Some(((name, states), deltas)) = known else { return Ok(()) };
    let rows = ("batch · segment", sizes.batch * segments(check.queue, sizes));
    let channel = ("channel", sizes.channel);
    check.contiguous_output(name, states, &[rows, channel, ("state", sizes.state)])?;
    check.contiguous_output("deltas", deltas, &[rows, channel])
}

/// Activations and their gradients are of one dtype, that of `u`; everything else is f32.
fn dtypes(check: &Check<'_>, scan: &SelectiveScan<'_>, call: &Call<'_>) -> Result<(), KernelError> {
    let mut activations = vec![("delta", &scan.delta.layout), ("b", &scan.b.layout), ("c", &scan.c.layout)];
    let mut others = vec![("a", &scan.a.layout)];
    activations.extend(scan.z.iter().map(|z| ("z", &z.layout)));
    others.extend(scan.d.iter().map(|d| ("d", &d.layout)));
    others.extend(scan.delta_bias.iter().map(|delta_bias| ("delta_bias", &delta_bias.layout)));
    others.extend(scan.initial_state.iter().map(|state| ("initial_state", &state.layout)));
    match call {
        Call::Forward { out, last_state } => {
            activations.push(("out", &out.layout));
            others.extend(last_state.map(|state| ("last_state", &state.layout)));
        }
        Call::Backward { grad_out, grad_last_state, gradients } => {
            let SelectiveScanGradients { u, delta, a, b, c, d, z, delta_bias, initial_state } = *gradients;
            activations.extend([("grad_out", &grad_out.layout), ("gradients.u", &u.layout)]);
            activations.extend([("gradients.delta", &delta.layout), ("gradients.b", &b.layout)]);
            activations.push(("gradients.c", &c.layout));
            activations.extend(z.iter().map(|z| ("gradients.z", &z.layout)));
            others.push(("gradients.a", &a.layout));
            others.extend(grad_last_state.map(|state| ("grad_last_state", &state.layout)));
            others.extend(d.iter().map(|d| ("gradients.d", &d.layout)));
            others.extend(delta_bias.iter().map(|bias| ("gradients.delta_bias", &bias.layout)));
            others.extend(initial_state.iter().map(|state| ("gradients.initial_state", &state.layout)));
        }
        Call::Segments => {}
        Call::Walk { states, deltas } => others.extend([("states", &states.layout), ("deltas", &deltas.layout)]),
        Call::WalkBack { grad_out, grad_states, deltas } => {
            activations.push(("grad_out", &grad_out.layout));
            others.extend([("grad_states", &grad_states.layout), ("deltas", &deltas.layout)]);
        }
        Call::AfterWalk { out, states, deltas } => {
            activations.push(("out", &out.layout));
            others.extend([("states", &states.layout), ("deltas", &deltas.layout)]);
        }
    }
    for (argument, layout) in activations {
        check.dtype(argument, layout, scan.u.dtype(), "of the dtype of `u`")?;
        check.reachable(argument, layout)?;
    }
    others.into_iter().try_for_each(|(argument, layout)| check.f32(argument, layout))
}
