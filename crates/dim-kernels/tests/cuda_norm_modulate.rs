//! The CUDA kernels of residual, norm and modulation against the f64 reference.
#![allow(clippy::unwrap_used)]

mod cuda_support;

use cuda_support::{DeviceTensor, Gpu, Placement, assert_close, gpu, random};
use dim_kernels::DType;
use dim_kernels::norm_modulate::{
    self, Branch, Kept, Norm, NormModulate, NormModulateGradients, NormModulateOutputs, reference,
};

const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::Bf16];
const NORMS: [Norm; 3] = [Norm::None, Norm::Rms { eps: 1e-5 }, Norm::Layer { eps: 1e-6 }];

/// What a test varies.
#[derive(Clone, Copy, Debug)]
struct Case {
    sizes: reference::Sizes,
    norm: Norm,
    dtype: DType,
    /// Of `x`, of the gradient by the stream and of the gradient by `x`.
    stream: DType,
    placement: Placement,
    /// A bit for each of branch, gate, weight, bias, scale, shift, gradient by the output, gradient by the stream.
    options: u32,
    /// Added to the stream.
    mean: f64,
}

impl Case {
    /// Everything that can be given is.
    fn full(batch: usize, token: usize, channel: usize, norm: Norm, dtype: DType) -> Self {
        let sizes = reference::Sizes { batch, token, channel };
        let (stream, placement) = (DType::F32, Placement::Contiguous);
        Self { sizes, norm, dtype, stream, placement, options: 0xff, mean: 0.0 }
    }

    /// Runs forward and backward on the GPU, on guarded memory full of NaNs, and as the reference; returns the GPU's.
    fn check(&self, gpu: &Gpu) -> Vec<Vec<f64>> {
        let Self { sizes, norm, dtype, stream, placement, options, .. } = *self;
        let reference::Sizes { batch, token, channel } = sizes;
        let (sequence, row, vector) = ([batch, token, channel], [batch, channel], [channel]);
        let draw = |bit: u32, name: &str, shape: &[usize], dtype| {
            (options >> bit & 1 == 1).then(|| random(3, name, shape.iter().product(), (-2.0, 2.0), dtype))
        };
        let x = random(3, "x", batch * token * channel, (self.mean - 2.0, self.mean + 2.0), stream);
        let y = draw(0, "y", &sequence, dtype);
        let gate = y.as_ref().and_then(|_| draw(1, "gate", &row, DType::F32));
        let weight = draw(2, "weight", &vector, DType::F32);
        let bias = draw(3, "bias", &vector, DType::F32);
        let scale = draw(4, "scale", &row, DType::F32);
        let shift = draw(5, "shift", &row, DType::F32);
        let grad_out = draw(6, "grad_out", &sequence, dtype);
        let grad_r = draw(7, "grad_r", &sequence, stream);

        let inputs = reference::Inputs {
            sizes,
            x: &x,
            y: y.as_deref(),
            gate: gate.as_deref(),
            gate_offset: 0.75,
            norm,
            weight: weight.as_deref(),
            bias: bias.as_deref(),
            scale: scale.as_deref(),
            shift: shift.as_deref(),
        };
        let outputs = reference::forward(&inputs).unwrap();
        let expected = reference::backward(&inputs, grad_out.as_deref(), grad_r.as_deref()).unwrap();

        let on_device = |values: &Option<Vec<f64>>, shape: &[usize], dtype| {
            values.as_ref().map(|values| DeviceTensor::of(values, dtype, shape, placement))
        };
        let x = DeviceTensor::of(&x, stream, &sequence, placement);
        let (y, gate) = (on_device(&y, &sequence, dtype), on_device(&gate, &row, DType::F32));
        let (weight, bias) = (on_device(&weight, &vector, DType::F32), on_device(&bias, &vector, DType::F32));
        let (scale, shift) = (on_device(&scale, &row, DType::F32), on_device(&shift, &row, DType::F32));
        let (grad_out, grad_r) = (on_device(&grad_out, &sequence, dtype), on_device(&grad_r, &sequence, stream));
        let gate_view = gate.as_ref().map(DeviceTensor::view);
        let op = NormModulate {
            branch: y.as_ref().map(|y| Branch { y: y.view(), gate: gate_view, gate_offset: 0.75 }),
            norm,
            weight: weight.as_ref().map(DeviceTensor::view),
            bias: bias.as_ref().map(DeviceTensor::view),
            scale: scale.as_ref().map(DeviceTensor::view),
            shift: shift.as_ref().map(DeviceTensor::view),
        };
        let unwritten =
            |wanted: bool, shape: &[usize], dtype| wanted.then(|| DeviceTensor::unwritten(dtype, shape, placement));
        // Without a branch, nobody needs a copy of the stream.
        let mut r = unwritten(y.is_some(), &sequence, DType::F32);
        let mut out = unwritten(true, &sequence, dtype);
        let mut statistics = unwritten(norm != Norm::None, &[batch, token, 2], DType::F32);
        let results = NormModulateOutputs {
            r: r.as_mut().map(DeviceTensor::view_mut),
            out: out.as_mut().map(DeviceTensor::view_mut),
            statistics: statistics.as_mut().map(DeviceTensor::view_mut),
        };
        norm_modulate::forward(&gpu.queue(), &op, &x.view(), results).unwrap();

        let mut grads = [
            ("grad x", unwritten(true, &sequence, stream), &expected.x, stream),
            ("grad y", unwritten(y.is_some(), &sequence, dtype), &expected.y, dtype),
            ("grad gate", unwritten(gate.is_some(), &row, DType::F32), &expected.gate, DType::F32),
            ("grad weight", unwritten(weight.is_some(), &vector, DType::F32), &expected.weight, DType::F32),
            ("grad bias", unwritten(bias.is_some(), &vector, DType::F32), &expected.bias, DType::F32),
            ("grad scale", unwritten(scale.is_some(), &row, DType::F32), &expected.scale, DType::F32),
            ("grad shift", unwritten(shift.is_some(), &row, DType::F32), &expected.shift, DType::F32),
        ];
        let mut views = grads.iter_mut().map(|(_, tensor, ..)| tensor.as_mut().map(DeviceTensor::view_mut));
        let mut next = || views.next().unwrap();
        let gradients = NormModulateGradients {
            x: next(),
            y: next(),
            gate: next(),
            weight: next(),
            bias: next(),
            scale: next(),
            shift: next(),
        };
        let (upstream, later) = (grad_out.as_ref().map(DeviceTensor::view), grad_r.as_ref().map(DeviceTensor::view));
        let kept = Kept { r: r.as_ref().unwrap_or(&x).view(), statistics: statistics.as_ref().map(DeviceTensor::view) };
        norm_modulate::backward(&gpu.queue(), &op, &kept, upstream.as_ref(), later.as_ref(), gradients).unwrap();
        gpu.finish();

        let forward = [
            ("r", r, &outputs.r, DType::F32),
            ("out", out, &outputs.out, dtype),
            ("statistics", statistics.filter(|_| channel > 0), &outputs.statistics, DType::F32),
        ];
        let mut results = Vec::new();
        for (name, tensor, expected, dtype) in forward.into_iter().chain(grads) {
            let Some(tensor) = tensor else { continue };
            let got = tensor.read(name);
            assert_close(&format!("{self:?}: {name}"), &got, expected, dtype);
            results.push(got);
        }
        results
    }
}

#[test]
fn every_channel_count_and_dtype_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        for norm in NORMS {
            for channel in [3, 4, 33, 130, 384, 1000, 1536, 4096, 4100, 8192] {
                Case::full(2, 7, channel, norm, dtype).check(&gpu);
            }
        }
    }
}

#[test]
fn a_stream_of_the_activations_dtype_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for dtype in [DType::F16, DType::Bf16] {
        for norm in NORMS {
            for channel in [5, 61, 64, 1536] {
                for options in [0xff, 0xfe, 0x7e, 0xbf] {
                    let case = Case { stream: dtype, options, ..Case::full(3, 37, channel, norm, dtype) };
                    case.check(&gpu);
                    Case { placement: Placement::Strided, ..case }.check(&gpu);
                }
            }
        }
    }
}

#[test]
fn a_single_channel_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        Case::full(2, 7, 1, Norm::None, dtype).check(&gpu);
    }
}

#[test]
fn every_length_around_a_block_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for norm in NORMS {
        for token in [1, 2, 3, 5, 31, 63, 64, 65, 367] {
            Case::full(3, token, 132, norm, DType::Bf16).check(&gpu);
        }
        // Enough tokens that a block takes many.
        Case::full(40, 1231, 36, norm, DType::F32).check(&gpu);
    }
}

#[test]
fn rows_with_gaps_and_rows_that_packs_do_not_divide_match_the_reference() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        for channel in [5, 61, 64, 129] {
            let case = Case::full(3, 37, channel, Norm::Rms { eps: 1e-5 }, dtype);
            Case { placement: Placement::Strided, ..case }.check(&gpu);
        }
    }
}

#[test]
fn every_combination_of_options_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for dtype in [DType::F32, DType::Bf16] {
        for norm in NORMS {
            for channel in [24, 25] {
                for options in 0..256 {
                    Case { options, ..Case::full(2, 13, channel, norm, dtype) }.check(&gpu);
                }
            }
        }
    }
}

#[test]
fn a_mean_far_from_zero_costs_the_layer_norm_no_more_than_its_rounding() {
    let Some(gpu) = gpu() else { return };
    for channel in [300, 301] {
        // Without a branch, whose sum would round.
        let case = Case::full(2, 9, channel, Norm::Layer { eps: 1e-6 }, DType::F32);
        Case { options: 0xfe, mean: 50.0, ..case }.check(&gpu);
    }
}

#[test]
fn empty_tensors_give_zero_gradients() {
    let Some(gpu) = gpu() else { return };
    for (batch, token, channel) in [(0, 5, 8), (2, 0, 8), (2, 5, 0), (1, 0, 8)] {
        Case::full(batch, token, channel, Norm::Rms { eps: 1e-5 }, DType::F32).check(&gpu);
    }
}

#[test]
fn the_same_input_gives_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        for channel in [643, 644] {
            let case = Case::full(5, 341, channel, Norm::Layer { eps: 1e-6 }, dtype);
            assert_eq!(case.check(&gpu), case.check(&gpu), "{dtype}");
        }
    }
}
