//! What stands between the wide products of a block, as DiM-H (RMS norm) and DiT-XL (layer norm without parameters) call it.

use dim_bench::cuda::{Case, Work, assert_near, device_tensor, patterned, published, values};
use dim_kernels::gpu::{DeviceTensor, Gpu};
use dim_kernels::norm_modulate::{
    self, Branch, Kept, Norm, NormModulate, NormModulateGradients, NormModulateOutputs, reference,
};
use dim_kernels::{DType, KernelError, Queue};

const UNIT: (f32, f32) = (-1.0, 1.0);

/// A network's use of the op.
#[derive(Clone, Copy)]
struct Use {
    name: &'static str,
    channel: usize,
    norm: Norm,
    /// Whether the norm has a weight.
    weight: bool,
    gate_offset: f32,
}

const USES: [Use; 2] = [
    Use { name: "rms", channel: 1536, norm: Norm::Rms { eps: 1e-5 }, weight: true, gate_offset: 1.0 },
    Use { name: "layer", channel: 1152, norm: Norm::Layer { eps: 1e-6 }, weight: false, gate_offset: 0.0 },
];

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    token: usize,
    channel: usize,
}

impl Sizes {
    /// The stream, the branch's output, gate, weight, scale, shift, and the gradients by the output and by the stream.
    fn inputs(self) -> [(Vec<usize>, DType); 8] {
        let Self { batch, token, channel } = self;
        let (sequence, row) = (vec![batch, token, channel], vec![batch, channel]);
        [
            (sequence.clone(), DType::F32),
            (sequence.clone(), DType::Bf16),
            (row.clone(), DType::F32),
            (vec![channel], DType::F32),
            (row.clone(), DType::F32),
            (row, DType::F32),
            (sequence.clone(), DType::Bf16),
            (sequence, DType::F32),
        ]
    }

    /// The stream and its norm, or the gradients by the stream and by what is added to it; those by gate, weight, scale and
    /// shift; then the norm's statistics.
    fn outputs(self, gpu: &Gpu) -> Result<Vec<DeviceTensor>, KernelError> {
        let Self { batch, token, channel } = self;
        let row = |gpu: &Gpu| gpu.zeros(DType::F32, &[batch, channel]);
        Ok(vec![
            gpu.zeros(DType::F32, &[batch, token, channel])?,
            gpu.zeros(DType::Bf16, &[batch, token, channel])?,
            row(gpu)?,
            gpu.zeros(DType::F32, &[channel])?,
            row(gpu)?,
            row(gpu)?,
            gpu.zeros(DType::F32, &[batch, token, 2])?,
        ])
    }
}

/// The op with its memory.
struct Modulation {
    of: Use,
    inputs: Vec<DeviceTensor>,
    outputs: Vec<DeviceTensor>,
}

impl Modulation {
    fn run(&mut self, queue: &Queue, backward: bool) -> Result<(), KernelError> {
        let Self { of, inputs, outputs } = self;
        let [stream, other, gate, weight, scale, shift, statistics] = &mut outputs[..] else {
            unreachable!("seven outputs")
        };
        let op = NormModulate {
            branch: Some(Branch { y: inputs[1].view()?, gate: Some(inputs[2].view()?), gate_offset: of.gate_offset }),
            norm: of.norm,
            weight: of.weight.then(|| inputs[3].view()).transpose()?,
            bias: None,
            scale: Some(inputs[4].view()?),
            shift: Some(inputs[5].view()?),
        };
        if !backward {
            let outputs = NormModulateOutputs {
                r: Some(stream.view_mut()?),
                out: Some(other.view_mut()?),
                statistics: Some(statistics.view_mut()?),
            };
            return norm_modulate::forward(queue, &op, &inputs[0].view()?, outputs);
        }
        let gradients = NormModulateGradients {
            x: Some(stream.view_mut()?),
            y: Some(other.view_mut()?),
            gate: Some(gate.view_mut()?),
            weight: of.weight.then(|| weight.view_mut()).transpose()?,
            bias: None,
            scale: Some(scale.view_mut()?),
            shift: Some(shift.view_mut()?),
        };
        let (grad_out, grad_r) = (inputs[6].view()?, inputs[7].view()?);
        let kept = Kept { r: inputs[0].view()?, statistics: Some(statistics.view()?) };
        norm_modulate::backward(queue, &op, &kept, Some(&grad_out), Some(&grad_r), gradients)
    }
}

/// Everything to time.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for of in USES {
        for [batch, token] in published::SHAPES {
            let sizes = Sizes { batch, token, channel: of.channel };
            for (direction, backward) in [("forward", false), ("backward", true)] {
                cases.push(Case {
                    op: "norm_modulate",
                    direction,
                    shape: format!("{batch}x{token}x{}{}", of.channel, of.name),
                    dtype: "bf16",
                    token_map: None,
                    work: work(sizes, backward),
                    make: Box::new(move |gpu| {
                        let inputs = (1..)
                            .zip(sizes.inputs())
                            .map(|(seed, (shape, dtype))| patterned(gpu, &shape, seed, UNIT, dtype))
                            .collect::<Result<_, _>>()?;
                        let mut modulation = Modulation { of, inputs, outputs: sizes.outputs(gpu)? };
                        Ok(Box::new(move |queue| modulation.run(queue, backward)))
                    }),
                });
            }
        }
    }
    cases
}

/// Forward reads stream and branch and writes stream and norm; backward reads the stream, the branch (for the gate) and both gradients,
/// and writes two.
#[allow(clippy::cast_precision_loss)] // sizes in memory
fn work(sizes: Sizes, backward: bool) -> Work {
    let elements = (sizes.batch * sizes.token * sizes.channel) as f64;
    let bytes = if backward { 4.0 + 2.0 + 2.0 + 4.0 + 4.0 + 2.0 } else { 4.0 + 2.0 + 4.0 + 2.0 };
    Work { bytes: bytes * elements, exponentials: 0.0 }
}

/// A small odd case of each use against the reference.
pub(crate) fn check(gpu: &Gpu) -> Result<(), String> {
    let text = |error: KernelError| error.to_string();
    let sizes = Sizes { batch: 2, token: 23, channel: 71 };
    let Sizes { batch, token, channel } = sizes;
    let host: Vec<Vec<f64>> = (1..)
        .zip(sizes.inputs())
        .map(|(seed, (shape, dtype))| values(shape.iter().product(), seed, UNIT, dtype))
        .collect();
    for of in USES {
        let inputs = host
            .iter()
            .zip(sizes.inputs())
            .map(|(values, (shape, dtype))| device_tensor(gpu, values, dtype, &shape))
            .collect::<Result<_, _>>()
            .map_err(text)?;
        let reference_inputs = reference::Inputs {
            sizes: reference::Sizes { batch, token, channel },
            x: &host[0],
            y: Some(&host[1]),
            gate: Some(&host[2]),
            gate_offset: f64::from(of.gate_offset),
            norm: of.norm,
            weight: of.weight.then_some(&host[3]),
            bias: None,
            scale: Some(&host[4]),
            shift: Some(&host[5]),
        };
        let expected = reference::forward(&reference_inputs).map_err(text)?;
        let mut modulation = Modulation { of, inputs, outputs: sizes.outputs(gpu).map_err(text)? };
        modulation.run(&gpu.queue(), false).map_err(text)?;
        assert_near(gpu, "r", &modulation.outputs[0], &expected.r)?;
        assert_near(gpu, "out", &modulation.outputs[1], &expected.out)?;

        // Backward is given the stream with the branch added, for which the same memory now stands.
        let truth = reference::backward(&reference_inputs, Some(&host[6]), Some(&host[7])).map_err(text)?;
        modulation.inputs[0] = device_tensor(gpu, &expected.r, DType::F32, &[batch, token, channel]).map_err(text)?;
        modulation.run(&gpu.queue(), true).map_err(text)?;
        let mut truths = vec![("grad x", 0, &truth.x), ("grad y", 1, &truth.y), ("grad gate", 2, &truth.gate)];
        if of.weight {
            truths.push(("grad weight", 3, &truth.weight));
        }
        truths.extend([("grad scale", 4, &truth.scale), ("grad shift", 5, &truth.shift)]);
        for (name, index, truth) in truths {
            assert_near(gpu, name, &modulation.outputs[index], truth)?;
        }
    }
    Ok(())
}
