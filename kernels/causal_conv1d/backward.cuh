// The gradients of the convolution.
//
// The gradient by the input of step l needs those by the results of steps l .. l + W - 1, so a warp walks W - 1 steps
// beyond its chunk, and recomputes there what its neighbour computes too. Sums over a chunk are taken here, in the
// order of the steps, and those over the chunks of a block; `sum` adds up those of the blocks.
#pragma once

#include "causal_conv1d/convolution.cuh"

namespace causal_conv1d {

constexpr int kBackwardTile = 4;  // steps whose inputs are loaded together

/// As `forward_blocks`.
constexpr int backward_blocks(int width) { return width <= 3 ? 4 : width == 4 ? 3 : 2; }

/// Sums over tokens: the gradients by the filters, and in row W those by the biases.
template <int W>
struct FilterSums {
    float rows[W + 1][kChannels] = {};

    /// Adds a step of a tile, given its gradient by the result before SiLU.
    __device__ void add(float gradient, const Trail<W, kBackwardTile>& x, int step, int v) {
#pragma unroll
        for (int k = 0; k < W; ++k) rows[k][v] += gradient * x.values[step + k][v];
        rows[W][v] += gradient;
    }

    /// Adds up those of a block's warps and writes them; every thread of the block must be here.
    __device__ void write(const CausalConv1dInputs& p, const CausalConv1dWork& work, const Place& at,
                          float (&sums)[kWarps][W + 1][kGroup]) const {
        const int first = at.channel - at.group * kGroup;
#pragma unroll
        for (int k = 0; k <= W; ++k) {
#pragma unroll
            for (int v = 0; v < kChannels; ++v) sums[threadIdx.x / kWarp][k][first + v * at.apart] = rows[k][v];
        }
        __syncthreads();
        const int64_t piece = static_cast<int64_t>(at.batch) * work.blocks + at.block;
        for (int i = threadIdx.x; i < (W + 1) * kGroup; i += kThreads) {
            const int row = i / kGroup, channel = at.group * kGroup + i % kGroup;
            if (channel >= static_cast<int>(p.channel)) continue;
            float sum = 0.0f;
#pragma unroll
            for (int warp = 0; warp < kWarps; ++warp) sum += sums[warp][row][i % kGroup];
            work.partials[(piece * (W + 1) + row) * p.channel + channel] = sum;
        }
    }
};

/// What the threads of a block read at some steps.
template <typename T>
struct Tile {
    Pack<T> x[kBackwardTile][kThreads];
    Pack<T> grad_out[kBackwardTile][kThreads];
};

/// Walks a chunk: writes the gradient by its inputs, returns the sums.
template <typename T, int W>
__device__ FilterSums<W> walk(const CausalConv1dBackward& params, const Place& at, Tile<T> (&tiles)[2]) {
    const CausalConv1dInputs& p = params.inputs;
    const Filters<W> filters(p, at);
    const Columns<const T> x(p.x, p.x_batch_stride, p.x_token_stride, at);
    const Columns<const T> grad_out(params.grad_out, params.grad_out_batch_stride, params.grad_out_token_stride, at);
    const Columns<T> grad_x(params.grad_x, params.grad_x_batch_stride, params.grad_x_token_stride, at);

    FilterSums<W> sums;
    const int last = at.end + W - 1, length = p.token;
    const auto fetch = [&](int first, Tile<T>& tile) {
        int tokens[kBackwardTile];
        tokens_from(p.token_map, first, min(last, length) - 1, tokens);
        x.template copy<kThreads>(tokens, &tile.x[0][threadIdx.x]);
        grad_out.template copy<kThreads>(tokens, &tile.grad_out[0][threadIdx.x]);
    };
    fetch(at.first, tiles[0]);
    copies::close_group();
    Trail<W, kBackwardTile> inputs = trail_before<kBackwardTile, W>(x, p.token_map, at.first);
    Trail<W, kBackwardTile> grad_y;  // by the results before SiLU
    int here = 0;
    for (int first = at.first; first < last; first += kBackwardTile, here ^= 1) {
        if (first + kBackwardTile < last) fetch(first + kBackwardTile, tiles[here ^ 1]);
        copies::close_group();
        copies::wait_for_all_but<1>();
#pragma unroll
        for (int t = 0; t < kBackwardTile; ++t) {
            const Pack<T> values = tiles[here].x[t][threadIdx.x], gradients = tiles[here].grad_out[t][threadIdx.x];
            inputs.set(t, values);
            grad_y.set(t, first + t < length ? gradients : Pack<T>{});
        }
        if (p.silu) {
#pragma unroll
            for (int t = 0; t < kBackwardTile; ++t) {
#pragma unroll
                for (int v = 0; v < kChannels; ++v) {
                    const float y = filters(inputs, t, v);
                    grad_y.values[W - 1 + t][v] *= silu_slope(y, sigmoid(y));
                }
            }
        }
        int tokens[kBackwardTile];  // of the steps W - 1 before, whose inputs no later step reads
        Pack<T> results[kBackwardTile];
        tokens_from(p.token_map, first - (W - 1), at.end - 1, tokens);
#pragma unroll
        for (int t = 0; t < kBackwardTile; ++t) {
            float result[kChannels] = {};
#pragma unroll
            for (int v = 0; v < kChannels; ++v) {
                sums.add(first + t < at.end ? grad_y.values[W - 1 + t][v] : 0.0f, inputs, t, v);
#pragma unroll
                for (int k = 0; k < W; ++k) result[v] += filters.weight[W - 1 - k][v] * grad_y.values[t + k][v];
            }
            results[t] = pack<T>(result);
        }
        grad_x.store(tokens, results, at.first + W - 1 - first, last - first);
        inputs.advance();
        grad_y.advance();
    }
    return sums;
}

template <typename T, int W>
__device__ void backward(const CausalConv1dBackward& params, const CausalConv1dWork& work) {
    // First for the walk, then for the sums.
    __shared__ union Memory {
        Tile<T> tiles[2];
        float sums[kWarps][W + 1][kGroup];
        __device__ Memory() {}
    } memory;
    const Place at(params.inputs, work);
    FilterSums<W> sums;
    if (!at.idle()) sums = walk<T, W>(params, at, memory.tiles);
    __syncthreads();
    sums.write(params.inputs, work, at, memory.sums);
}

}  // namespace causal_conv1d
