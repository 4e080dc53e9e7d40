//! The convolution as DiM-H calls it: its input is the first half of a product's output.

use dim_bench::cuda::{Case, Work, assert_near, columns, device_tensor, patterned, published, values};
use dim_kernels::causal_conv1d::{self, CausalConv1d, CausalConv1dGradients, reference};
use dim_kernels::gpu::{DeviceTensor, Gpu};
use dim_kernels::{DType, KernelError, Queue, TokenMap};

const CHANNELS: usize = 3072;
const WIDTH: usize = 3;
const UNIT: (f32, f32) = (-1.0, 1.0);

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    token: usize,
    channel: usize,
}

impl Sizes {
    /// (x, z), filter, bias and the gradient by the output.
    fn inputs(self) -> [(Vec<usize>, DType); 4] {
        let Self { batch, token, channel } = self;
        [
            (vec![batch, token, 2 * channel], DType::Bf16),
            (vec![channel, WIDTH], DType::F32),
            (vec![channel], DType::F32),
            (vec![batch, token, channel], DType::Bf16),
        ]
    }

    /// The output or the gradient by x, and the gradients by filter and bias.
    fn outputs(self, gpu: &Gpu) -> Result<Vec<DeviceTensor>, KernelError> {
        let Self { batch, token, channel } = self;
        Ok(vec![
            gpu.zeros(DType::Bf16, &[batch, token, channel])?,
            gpu.zeros(DType::F32, &[channel, WIDTH])?,
            gpu.zeros(DType::F32, &[channel])?,
        ])
    }
}

/// A convolution with its memory.
struct Convolution {
    sizes: Sizes,
    inputs: Vec<DeviceTensor>,
    outputs: Vec<DeviceTensor>,
    token_map: Option<TokenMap>,
}

impl Convolution {
    fn run(&mut self, queue: &Queue, backward: bool) -> Result<(), KernelError> {
        let Self { sizes, inputs, outputs, token_map } = self;
        let [out, weight, bias] = &mut outputs[..] else { unreachable!("three outputs") };
        let convolution = CausalConv1d {
            x: inputs[0].columns(0, sizes.channel)?,
            weight: inputs[1].view()?,
            bias: Some(inputs[2].view()?),
            silu: true,
            token_map: token_map.as_ref(),
        };
        if !backward {
            return causal_conv1d::forward(queue, &convolution, out.view_mut()?);
        }
        let gradients =
            CausalConv1dGradients { x: out.view_mut()?, weight: weight.view_mut()?, bias: Some(bias.view_mut()?) };
        causal_conv1d::backward(queue, &convolution, &inputs[3].view()?, gradients)
    }
}

/// Everything to time.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for [batch, token] in published::SHAPES {
        let sizes = Sizes { batch, token, channel: CHANNELS };
        for (direction, backward) in [("forward", false), ("backward", true)] {
            for follows_map in [false, true] {
                cases.push(Case {
                    op: "causal_conv1d",
                    direction,
                    shape: format!("{batch}x{token}x{CHANNELS}w{WIDTH}"),
                    dtype: "bf16",
                    token_map: Some(follows_map),
                    work: work(sizes, backward),
                    make: Box::new(move |gpu| {
                        let inputs = (1..)
                            .zip(sizes.inputs())
                            .map(|(seed, (shape, dtype))| patterned(gpu, &shape, seed, UNIT, dtype))
                            .collect::<Result<_, _>>()?;
                        let token_map = follows_map.then(|| crate::token_map(token));
                        let outputs = sizes.outputs(gpu)?;
                        let mut convolution = Convolution { sizes, inputs, outputs, token_map };
                        Ok(Box::new(move |queue| convolution.run(queue, backward)))
                    }),
                });
            }
        }
    }
    cases
}

/// Forward reads x and writes the output; backward reads x and the gradient and writes one. SiLU takes two results of the
/// exponential unit.
#[allow(clippy::cast_precision_loss)] // sizes in memory
fn work(sizes: Sizes, backward: bool) -> Work {
    let elements = (sizes.batch * sizes.token * sizes.channel) as f64;
    let parameters = 4.0 * (sizes.channel * (WIDTH + 1) + sizes.token) as f64;
    let bytes = if backward { 6.0 * elements + 2.0 * parameters } else { 4.0 * elements + parameters };
    Work { bytes, exponentials: 2.0 * elements }
}

/// A small odd case, with and without a token map, against the reference.
pub(crate) fn check(gpu: &Gpu) -> Result<(), String> {
    let text = |error: KernelError| error.to_string();
    let sizes = Sizes { batch: 2, token: 139, channel: 71 };
    let Sizes { batch, token, channel } = sizes;
    for token_map in [None, Some(crate::token_map(token))] {
        let host: Vec<Vec<f64>> = (1..)
            .zip(sizes.inputs())
            .map(|(seed, (shape, dtype))| values(shape.iter().product(), seed, UNIT, dtype))
            .collect();
        let inputs = host
            .iter()
            .zip(sizes.inputs())
            .map(|(values, (shape, dtype))| device_tensor(gpu, values, dtype, &shape))
            .collect::<Result<_, _>>()
            .map_err(text)?;
        let reference_inputs = reference::Inputs {
            sizes: reference::Sizes { batch, token, channel, width: WIDTH },
            x: &columns(&host[0], 2 * channel, 0, channel),
            weight: &host[1],
            bias: Some(&host[2]),
            silu: true,
            token_map: token_map.as_ref(),
        };
        let expected = reference::forward(&reference_inputs).map_err(text)?;
        let gradients = reference::backward(&reference_inputs, &host[3]).map_err(text)?;
        let outputs = sizes.outputs(gpu).map_err(text)?;
        let mut convolution = Convolution { sizes, inputs, outputs, token_map: token_map.clone() };
        convolution.run(&gpu.queue(), false).map_err(text)?;
        assert_near(gpu, "out", &convolution.outputs[0], &expected)?;
        convolution.run(&gpu.queue(), true).map_err(text)?;
        let truths = [("grad x", &gradients.x), ("grad weight", &gradients.weight), ("grad bias", &gradients.bias)];
        for (tensor, (name, truth)) in convolution.outputs.iter().zip(truths) {
            assert_near(gpu, name, tensor, truth)?;
        }
    }
    Ok(())
}
