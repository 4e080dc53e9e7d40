//! The scan as DiM-H calls it: z beside the convolution's input in one product's output, B and C in another's.

use dim_bench::cuda::{Case, Work, assert_near, columns, device_tensor, patterned, published, values};
use dim_kernels::gpu::{DeviceTensor, Gpu};
use dim_kernels::selective_scan::{self, SelectiveScan, SelectiveScanGradients, reference};
use dim_kernels::{DType, KernelError, Queue, TokenMap};

const CHANNELS: usize = 3072;
const STATES: usize = 16;
/// Columns of the product that holds B and C, before them.
const DT_RANK: usize = 96;

/// Further batches and tokens: what one image with guidance takes, and sizes around which other kernels take over.
const FEW_IMAGES: [[usize; 2]; 4] = [[2, 366], [4, 366], [1, 1230], [2, 1230]];

/// Half widths of the inputs, around centres.
const UNIT: (f32, f32) = (-1.0, 1.0);
const DELTA_BIAS: (f32, f32) = (-4.5, -1.5);
const A: (f32, f32) = (-16.0, -0.5);

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    token: usize,
    channel: usize,
    state: usize,
    rank: usize,
}

impl Sizes {
    /// Inputs in the order of [`Scan::inputs`]: shape, range of values, dtype.
    fn inputs(self) -> [(Vec<usize>, (f32, f32), DType); 8] {
        let Self { batch, token, channel, state, rank } = self;
        let wide = vec![batch, token, channel];
        [
            (wide.clone(), UNIT, DType::Bf16),
            (wide.clone(), UNIT, DType::Bf16),
            (vec![batch, token, 2 * channel], UNIT, DType::Bf16),
            (vec![batch, token, rank + 2 * state], UNIT, DType::Bf16),
            (vec![channel, state], A, DType::F32),
            (vec![channel], UNIT, DType::F32),
            (vec![channel], DELTA_BIAS, DType::F32),
            (wide, UNIT, DType::Bf16),
        ]
    }

    /// Outputs: out, then the gradients by u, delta, z, B, C, A, D and the bias.
    fn outputs(self, gpu: &Gpu, backward: bool) -> Result<Vec<DeviceTensor>, KernelError> {
        let Self { batch, token, channel, state, .. } = self;
        let (wide, narrow) = ([batch, token, channel], [batch, token, state]);
        let mut outputs = Vec::new();
        if !backward {
            outputs.push(gpu.zeros(DType::Bf16, &wide)?);
            return Ok(outputs);
        }
        for _ in 0..3 {
            outputs.push(gpu.zeros(DType::Bf16, &wide)?);
        }
        for _ in 0..2 {
            outputs.push(gpu.zeros(DType::Bf16, &narrow)?);
        }
        outputs.push(gpu.zeros(DType::F32, &[channel, state])?);
        outputs.push(gpu.zeros(DType::F32, &[channel])?);
        outputs.push(gpu.zeros(DType::F32, &[channel])?);
        Ok(outputs)
    }
}

/// A scan with its memory.
struct Scan {
    sizes: Sizes,
    /// u, delta, (x, z), (rank, B, C), A, D, the bias of delta, and the gradient by the output.
    inputs: Vec<DeviceTensor>,
    outputs: Vec<DeviceTensor>,
    token_map: Option<TokenMap>,
}

impl Scan {
    fn forward(&mut self, queue: &Queue) -> Result<(), KernelError> {
        let Self { sizes, inputs, outputs, token_map } = self;
        selective_scan::forward(queue, &scan(*sizes, inputs, token_map.as_ref())?, outputs[0].view_mut()?, None)
    }

    fn backward(&mut self, queue: &Queue) -> Result<(), KernelError> {
        let Self { sizes, inputs, outputs, token_map } = self;
        let [u, delta, z, b, c, a, d, delta_bias] = &mut outputs[..] else { unreachable!("eight gradients") };
        let gradients = SelectiveScanGradients {
            u: u.view_mut()?,
            delta: delta.view_mut()?,
            a: a.view_mut()?,
            b: b.view_mut()?,
            c: c.view_mut()?,
            d: Some(d.view_mut()?),
            z: Some(z.view_mut()?),
            delta_bias: Some(delta_bias.view_mut()?),
            initial_state: None,
        };
        let grad_out = inputs[7].view()?;
        selective_scan::backward(queue, &scan(*sizes, inputs, token_map.as_ref())?, &grad_out, None, gradients)
    }
}

fn scan<'a>(
    sizes: Sizes,
    inputs: &'a [DeviceTensor],
    token_map: Option<&'a TokenMap>,
) -> Result<SelectiveScan<'a>, KernelError> {
    let Sizes { channel, state, rank, .. } = sizes;
    Ok(SelectiveScan {
        u: inputs[0].view()?,
        delta: inputs[1].view()?,
        z: Some(inputs[2].columns(channel, channel)?),
        b: inputs[3].columns(rank, state)?,
        c: inputs[3].columns(rank + state, state)?,
        a: inputs[4].view()?,
        d: Some(inputs[5].view()?),
        delta_bias: Some(inputs[6].view()?),
        delta_softplus: true,
        initial_state: None,
        token_map,
    })
}

/// Everything to time.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for [batch, token] in published::SHAPES.into_iter().chain(FEW_IMAGES) {
        let sizes = Sizes { batch, token, channel: CHANNELS, state: STATES, rank: DT_RANK };
        for (direction, backward) in [("forward", false), ("backward", true)] {
            for follows_map in [false, true] {
                cases.push(Case {
                    op: "selective_scan",
                    direction,
                    shape: format!("{batch}x{token}x{CHANNELS}n{STATES}"),
                    dtype: "bf16",
                    token_map: Some(follows_map),
                    work: work(sizes, backward),
                    make: Box::new(move |gpu| {
                        let inputs = (1..)
                            .zip(sizes.inputs())
                            .map(|(seed, (shape, range, dtype))| patterned(gpu, &shape, seed, range, dtype))
                            .collect::<Result<_, _>>()?;
                        let token_map = follows_map.then(|| crate::token_map(token));
                        let outputs = sizes.outputs(gpu, backward)?;
                        let mut scan = Scan { sizes, inputs, outputs, token_map };
                        Ok(if backward {
                            Box::new(move |queue| scan.backward(queue))
                        } else {
                            Box::new(move |queue| scan.forward(queue))
                        })
                    }),
                });
            }
        }
    }
    cases
}

/// Forward reads u, delta, z, B and C and writes the output; softplus and SiLU take two results of the exponential unit each.
/// Backward reads the gradient of the output too and writes five gradients; states are computed a second time, so that their
/// exponentials are needed twice. Parameters and token map are small and counted once.
#[allow(clippy::cast_precision_loss)] // sizes in memory
fn work(sizes: Sizes, backward: bool) -> Work {
    let Sizes { batch, token, channel, state, .. } = sizes;
    let tokens = (batch * token) as f64;
    let (wide, narrow) = (2.0 * tokens * channel as f64, 2.0 * tokens * state as f64);
    let parameters = 4.0 * (channel * (state + 2) + token) as f64;
    let per_channel = if backward { 2 * state + 4 } else { state + 4 };
    let bytes =
        if backward { 7.0 * wide + 4.0 * narrow + 2.0 * parameters } else { 4.0 * wide + 2.0 * narrow + parameters };
    Work { bytes, exponentials: tokens * channel as f64 * per_channel as f64 }
}

/// A small odd case, with and without a token map, against the reference.
pub(crate) fn check(gpu: &Gpu) -> Result<(), String> {
    let sizes = Sizes { batch: 2, token: 139, channel: 71, state: STATES, rank: 5 };
    for follows_map in [false, true] {
        check_one(gpu, sizes, follows_map).map_err(|message| format!("token map {follows_map}: {message}"))?;
    }
    Ok(())
}

fn check_one(gpu: &Gpu, sizes: Sizes, follows_map: bool) -> Result<(), String> {
    let text = |error: KernelError| error.to_string();
    let Sizes { batch, token, channel, state, rank } = sizes;
    let token_map = follows_map.then(|| crate::token_map(token));
    let host: Vec<Vec<f64>> = (1..)
        .zip(sizes.inputs())
        .map(|(seed, (shape, range, dtype))| values(shape.iter().product(), seed, range, dtype))
        .collect();
    let inputs = host
        .iter()
        .zip(sizes.inputs())
        .map(|(values, (shape, _, dtype))| device_tensor(gpu, values, dtype, &shape))
        .collect::<Result<_, _>>()
        .map_err(text)?;
    let z = columns(&host[2], 2 * channel, channel, channel);
    let b = columns(&host[3], rank + 2 * state, rank, state);
    let c = columns(&host[3], rank + 2 * state, rank + state, state);
    let reference_inputs = reference::Inputs {
        sizes: reference::Sizes { batch, token, channel, state },
        u: &host[0],
        delta: &host[1],
        a: &host[4],
        b: &b,
        c: &c,
        d: Some(&host[5]),
        z: Some(&z),
        delta_bias: Some(&host[6]),
        delta_softplus: true,
        initial_state: None,
        token_map: token_map.as_ref(),
    };
    let expected = reference::forward(&reference_inputs).map_err(text)?;
    let gradients = reference::backward(&reference_inputs, &host[7], None).map_err(text)?;

    let mut scan =
        Scan { sizes, inputs, outputs: sizes.outputs(gpu, false).map_err(text)?, token_map: token_map.clone() };
    scan.forward(&gpu.queue()).map_err(text)?;
    assert_near(gpu, "out", &scan.outputs[0], &expected.out)?;
    scan.outputs = sizes.outputs(gpu, true).map_err(text)?;
    scan.backward(&gpu.queue()).map_err(text)?;
    let truths = [
        ("grad u", &gradients.u),
        ("grad delta", &gradients.delta),
        ("grad z", &gradients.z),
        ("grad b", &gradients.b),
        ("grad c", &gradients.c),
        ("grad a", &gradients.a),
        ("grad d", &gradients.d),
        ("grad delta_bias", &gradients.delta_bias),
    ];
    scan.outputs.iter().zip(truths).try_for_each(|(tensor, (name, truth))| assert_near(gpu, name, tensor, truth))
}
