// What the convolution's kernels share: who computes what, and one filter's window on its channel.
//
// A thread walks a chunk of one channel's tokens with the last W inputs in registers, so that each is read once, but
// for the few before the chunk.
#pragma once

#include "causal_conv1d/params.h"
#include "common/access.cuh"
#include "common/dtype.cuh"
#include "common/math.cuh"

namespace causal_conv1d {

// The launching side has the same two numbers.
constexpr int kThreads = 128;  // of a block: one a channel
constexpr int kChunk = 64;     // steps of a block

/// A thread's place: its sequence, its channel, its steps. The grid is batch × chunks × groups of channels.
struct Place {
    int channel;
    int chunk;
    int batch;
    int first;
    int end;

    __device__ explicit Place(const CausalConv1dInputs& p) {
        const int groups = divide_up(p.channel, kThreads), chunks = divide_up(p.token, kChunk);
        channel = blockIdx.x % groups * kThreads + threadIdx.x;
        chunk = blockIdx.x / groups % chunks;
        batch = blockIdx.x / groups / chunks;
        first = chunk * kChunk;
        end = min(first + kChunk, static_cast<int>(p.token));
    }
};

/// A channel's filter, and the inputs or gradients that it lies on; the last belongs to the step at hand.
template <int W>
struct Window {
    float values[W] = {};

    __device__ void push(float value) {
#pragma unroll
        for (int k = 0; k + 1 < W; ++k) values[k] = values[k + 1];
        values[W - 1] = value;
    }
};

template <int W>
struct Filter {
    float weight[W];
    float bias;

    __device__ Filter(const CausalConv1dInputs& p, int channel) : bias(element_or_zero(p.bias, channel)) {
#pragma unroll
        for (int k = 0; k < W; ++k) weight[k] = p.weight[channel * p.weight_channel_stride + k];
    }

    /// The result before SiLU.
    __device__ float operator()(const Window<W>& x) const {
        float y = bias;
#pragma unroll
        for (int k = 0; k < W; ++k) y += weight[k] * x.values[k];
        return y;
    }
};

/// The window just before a chunk: the W - 1 inputs that precede it, zeros before the first token.
template <typename T, int W>
__device__ Window<W> window_before(const Column<const T>& x, const uint32_t* token_map, int first) {
    Window<W> window;
#pragma unroll
    for (int k = 1; k < W; ++k) {
        const int step = first - W + k;
        if (step >= 0) window.values[k] = to_float(x[token_of(token_map, step)]);
    }
    return window;
}

}  // namespace causal_conv1d
