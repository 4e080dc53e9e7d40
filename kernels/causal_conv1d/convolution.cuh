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

/// A thread's place: its sequence, its channels, its steps. The grid is batch × blocks of a sequence × groups of
/// channels.
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

/// Values at the steps of a tile, after those at the W - 1 steps before it: what the filters lie on.
template <int W, int kSteps>
struct Trail {
    float values[W - 1 + kSteps][kChannels] = {};

    template <typename T>
    __device__ void set(int step, const Pack<T>& pack) {
#pragma unroll
        for (int v = 0; v < kChannels; ++v) values[W - 1 + step][v] = to_float(pack.values[v]);
    }

    /// Goes on to the next tile.
    __device__ void advance() {
#pragma unroll
        for (int k = 0; k < W - 1; ++k) {
#pragma unroll
            for (int v = 0; v < kChannels; ++v) values[k][v] = values[k + kSteps][v];
        }
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

    /// The result of a step of a tile, before SiLU.
    template <int kSteps>
    __device__ float operator()(const Trail<W, kSteps>& x, int step, int v) const {
        float y = bias[v];
#pragma unroll
        for (int k = 0; k < W; ++k) y += weight[k][v] * x.values[step + k][v];
        return y;
    }
};

/// The tokens of the steps from `first` on; a step before the first or beyond `last` has that one's, which may be read.
template <int kSteps>
__device__ void tokens_from(const uint32_t* token_map, int first, int last, int (&tokens)[kSteps]) {
#pragma unroll
    for (int t = 0; t < kSteps; ++t) tokens[t] = token_of(token_map, max(min(first + t, last), 0));
}

/// The inputs at the W - 1 steps before a chunk, zeros before the first token.
template <int kSteps, int W, typename T>
__device__ Trail<W, kSteps> trail_before(const Columns<const T>& x, const uint32_t* token_map, int first) {
    Trail<W, kSteps> trail;
    int tokens[W - 1];
    Pack<T> values[W - 1];
    tokens_from(token_map, first - (W - 1), first, tokens);
    x.load(tokens, values);
#pragma unroll
    for (int k = 0; k < W - 1; ++k) {
        if (first - (W - 1) + k >= 0) trail.set(k - (W - 1), values[k]);
    }
    return trail;
}

}  // namespace causal_conv1d
