// What the convolution's kernels share: who computes what, and the filters' windows on their channels.
//
// A warp walks a chunk of tokens of 128 neighbouring channels, four a thread, with the last W inputs in registers, so
// that each input is read once, but for the few before the chunk. The warps of a block walk neighbouring chunks.
#pragma once

#include "causal_conv1d/pack.cuh"
#include "causal_conv1d/params.h"
#include "causal_conv1d/work.h"
#include "common/access.cuh"
#include "common/math.cuh"

namespace causal_conv1d {

// The launching side has the same numbers.
constexpr int kWarps = 4;  // of a block
constexpr int kThreads = kWarps * kWarp;
constexpr int kGroup = kWarp * kChannels;  // channels of a warp

/// A thread's place: its sequence, its channels, its steps. The grid is batch × blocks of a sequence × groups of channels.
struct Place {
    int batch;
    int block;    // of the sequence
    int group;    // of channels
    int channel;  // the first of the thread's
    int apart;    // distance of its channels
    int present;  // how many of its channels there are
    int first;    // step
    int end;
    bool packed;

    __device__ Place(const CausalConv1dInputs& p, const CausalConv1dWork& work) {
        const int channels = p.channel, groups = divide_up(channels, kGroup), blocks = work.blocks;
        group = blockIdx.x % groups;
        block = blockIdx.x / groups % blocks;
        batch = blockIdx.x / groups / blocks;
        packed = work.packed;
        const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, chunk = work.chunk;
        apart = packed ? 1 : kWarp;
        channel = group * kGroup + (packed ? lane * kChannels : lane);
        const int left = max(channels - channel, 0);
        present = min(kChannels, packed ? left : divide_up(left, kWarp));
        first = (block * kWarps + warp) * chunk;
        end = min(first + chunk, static_cast<int>(p.token));
    }

    __device__ bool idle() const { return present == 0 || first >= end; }
};

/// The values that the filters lie on; the last belong to the step at hand.
template <int W>
struct Window {
    float values[W][kChannels] = {};

    __device__ void push(const float (&next)[kChannels]) {
#pragma unroll
        for (int v = 0; v < kChannels; ++v) {
#pragma unroll
            for (int k = 0; k + 1 < W; ++k) values[k][v] = values[k + 1][v];
            values[W - 1][v] = next[v];
        }
    }

    template <typename T>
    __device__ void push(const Pack<T>& next) {
        float values[kChannels];
#pragma unroll
        for (int v = 0; v < kChannels; ++v) values[v] = to_float(next.values[v]);
        push(values);
    }
};

/// The filters of a thread's channels.
template <int W>
struct Filters {
    float weight[W][kChannels] = {};
    float bias[kChannels] = {};

    __device__ Filters(const CausalConv1dInputs& p, const Place& at) {
#pragma unroll
        for (int v = 0; v < kChannels; ++v) {
            if (v >= at.present) break;
            const int channel = at.channel + v * at.apart;
            bias[v] = element_or_zero(p.bias, channel);
#pragma unroll
            for (int k = 0; k < W; ++k) weight[k][v] = p.weight[channel * p.weight_channel_stride + k];
        }
    }

    /// A channel's result before SiLU.
    __device__ float operator()(const Window<W>& x, int v) const {
        float y = bias[v];
#pragma unroll
        for (int k = 0; k < W; ++k) y += weight[k][v] * x.values[k][v];
        return y;
    }
};

/// The tokens of the steps from `first` on; those of steps beyond `last` are that of `last`, which may be read again.
template <int kSteps>
__device__ void tokens_from(const uint32_t* token_map, int first, int last, int (&tokens)[kSteps]) {
#pragma unroll
    for (int t = 0; t < kSteps; ++t) tokens[t] = token_of(token_map, min(first + t, last));
}

/// The window just before a chunk: the W - 1 inputs that precede it, zeros before the first token.
template <typename T, int W>
__device__ Window<W> window_before(const Columns<const T>& x, const uint32_t* token_map, int first) {
    Window<W> window;
    int tokens[W - 1];
    Pack<T> values[W - 1];
#pragma unroll
    for (int k = 0; k < W - 1; ++k) tokens[k] = token_of(token_map, max(first - (W - 1) + k, 0));
    x.load(tokens, values);
#pragma unroll
    for (int k = 0; k < W - 1; ++k) {
        if (first - (W - 1) + k >= 0) window.push(values[k]);
    }
    return window;
}

}  // namespace causal_conv1d
