//! The convolution's CUDA kernels against the f64 reference.
#![allow(clippy::unwrap_used)]

mod cuda_support;

use cuda_support::{DeviceTensor, Gpu, Placement, assert_close, gpu, permutation, random};
use dim_kernels::causal_conv1d::{self, CausalConv1d, CausalConv1dGradients, reference};
use dim_kernels::{DType, TokenMap};

const DTYPES: [DType; 3] = [DType::F32, DType::F16, DType::Bf16];
const PLACEMENTS: [Placement; 4] =
    [Placement::Contiguous, Placement::Strided, Placement::StridedAligned, Placement::Unaligned];

/// What a test varies.
#[derive(Clone, Copy, Debug)]
struct Case {
    sizes: reference::Sizes,
    dtype: DType,
    placement: Placement,
    bias: bool,
    silu: bool,
    token_map: bool,
}

impl Case {
    /// Everything that can be given is.
    fn full(batch: usize, token: usize, channel: usize, width: usize, dtype: DType) -> Self {
        let sizes = reference::Sizes { batch, token, channel, width };
        Self { sizes, dtype, placement: Placement::Strided, bias: true, silu: true, token_map: true }
    }

    /// Runs forward and backward on the GPU, on guarded memory full of NaNs, and as the reference; returns the GPU's.
    fn check(&self, gpu: &Gpu) -> Vec<Vec<f64>> {
        let Self { sizes, dtype, placement, .. } = *self;
        let reference::Sizes { batch, token, channel, width } = sizes;
        let (sequence, filter) = ([batch, token, channel], [channel, width]);
        let x = random(3, "x", batch * token * channel, (-2.0, 2.0), dtype);
        let weight = random(3, "weight", channel * width, (-1.0, 1.0), DType::F32);
        let bias = self.bias.then(|| random(3, "bias", channel, (-1.0, 1.0), DType::F32));
        let grad_out = random(3, "grad_out", x.len(), (-1.0, 1.0), dtype);
        let token_map = self.token_map.then(|| TokenMap::new(permutation(3, token)).unwrap());

        let inputs = reference::Inputs {
            sizes,
            x: &x,
            weight: &weight,
            bias: bias.as_deref(),
            silu: self.silu,
            token_map: token_map.as_ref(),
        };
        let expected_out = reference::forward(&inputs).unwrap();
        let expected = reference::backward(&inputs, &grad_out).unwrap();

        let x = DeviceTensor::of(&x, dtype, &sequence, placement);
        let weight = DeviceTensor::of(&weight, DType::F32, &filter, placement);
        let bias = bias.map(|values| DeviceTensor::of(&values, DType::F32, &[channel], placement));
        let grad_out = DeviceTensor::of(&grad_out, dtype, &sequence, placement);
        let conv = CausalConv1d {
            x: x.view(),
            weight: weight.view(),
            bias: bias.as_ref().map(DeviceTensor::view),
            silu: self.silu,
            token_map: token_map.as_ref(),
        };
        let mut out = DeviceTensor::unwritten(dtype, &sequence, placement);
        let mut grad_x = DeviceTensor::unwritten(dtype, &sequence, placement);
        let mut grad_weight = DeviceTensor::unwritten(DType::F32, &filter, placement);
        let mut grad_bias = bias.is_some().then(|| DeviceTensor::unwritten(DType::F32, &[channel], placement));
        causal_conv1d::forward(&gpu.queue(), &conv, out.view_mut()).unwrap();
        let gradients = CausalConv1dGradients {
            x: grad_x.view_mut(),
            weight: grad_weight.view_mut(),
            bias: grad_bias.as_mut().map(DeviceTensor::view_mut),
        };
        causal_conv1d::backward(&gpu.queue(), &conv, &grad_out.view(), gradients).unwrap();
        gpu.finish();

        let mut results = Vec::new();
        let mut compare = |name: &str, tensor: &DeviceTensor, expected: &[f64], dtype| {
            let got = tensor.read(name);
            assert_close(&format!("{self:?}: {name}"), &got, expected, dtype);
            results.push(got);
        };
        compare("out", &out, &expected_out, dtype);
        compare("grad x", &grad_x, &expected.x, dtype);
        compare("grad weight", &grad_weight, &expected.weight, DType::F32);
        if let Some(grad_bias) = &grad_bias {
            compare("grad bias", grad_bias, &expected.bias, DType::F32);
        }
        results
    }
}

#[test]
fn every_width_and_dtype_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        for width in 2..=8 {
            Case::full(3, 139, 131, width, dtype).check(&gpu);
        }
    }
}

#[test]
fn every_width_and_dtype_matches_the_reference_wherever_it_lies() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        for width in 2..=8 {
            for placement in PLACEMENTS {
                Case { placement, ..Case::full(2, 45, 132, width, dtype) }.check(&gpu);
            }
        }
    }
}

/// A block walks four chunks, each of up to four steps forward and up to six backward here.
#[test]
fn every_length_around_a_chunk_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for width in [2, 3, 8] {
        for token in [0, 1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 23, 24, 25, 33, 47, 48, 49, 64, 65, 71, 129, 367] {
            for (placement, channel) in [(Placement::Strided, 33), (Placement::StridedAligned, 36)] {
                Case { placement, ..Case::full(2, token, channel, width, DType::F32) }.check(&gpu);
            }
        }
    }
}

/// With warps enough, chunks are longer than those of the other tests.
#[test]
fn long_chunks_match_the_reference() {
    let Some(gpu) = gpu() else { return };
    for (batch, token, channel) in [(4, 523, 3075), (31, 367, 1028), (67, 257, 1540)] {
        for dtype in [DType::F32, DType::Bf16] {
            Case { placement: Placement::Contiguous, ..Case::full(batch, token, channel, 3, dtype) }.check(&gpu);
        }
    }
}

#[test]
fn every_channel_count_around_a_group_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for channel in [1, 2, 3, 4, 5, 31, 32, 33, 63, 65, 97, 124, 127, 128, 129, 132, 256, 259, 260] {
        for placement in [Placement::Strided, Placement::StridedAligned] {
            Case { placement, ..Case::full(2, 70, channel, 3, DType::Bf16) }.check(&gpu);
        }
    }
}

#[test]
fn every_combination_of_options_matches_the_reference() {
    let Some(gpu) = gpu() else { return };
    for bits in 0..8_u32 {
        let bit = |index: u32| bits >> index & 1 == 1;
        for dtype in DTYPES {
            for placement in PLACEMENTS {
                for channel in [5, 12] {
                    let case = Case { placement, ..Case::full(2, 13, channel, 4, dtype) };
                    Case { bias: bit(0), silu: bit(1), token_map: bit(2), ..case }.check(&gpu);
                }
            }
        }
    }
}

#[test]
fn empty_tensors_give_zero_gradients() {
    let Some(gpu) = gpu() else { return };
    for (batch, token, channel) in [(0, 5, 7), (2, 0, 7), (2, 5, 0)] {
        Case::full(batch, token, channel, 3, DType::F32).check(&gpu);
    }
}

#[test]
fn the_same_input_gives_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    for dtype in DTYPES {
        for channel in [643, 644] {
            let case = Case { placement: Placement::StridedAligned, ..Case::full(5, 341, channel, 3, dtype) };
            assert_eq!(case.check(&gpu), case.check(&gpu), "{dtype}");
        }
    }
}
