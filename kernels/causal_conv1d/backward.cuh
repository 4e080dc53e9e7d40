// The gradients of the convolution.
//
// The gradient by the input of step l needs those by the results of steps l .. l + W - 1, so a warp walks W - 1 steps
// beyond its chunk, and recomputes there what its neighbour computes too. Sums over a chunk are taken here, in the
// order of the steps, and those over the chunks of a block; `sum` adds up those of the blocks.
#pragma once

#include "causal_conv1d/convolution.cuh"

namespace causal_conv1d {

constexpr int kBackwardTile = 4;  // steps whose inputs are loaded together

/// Sums over tokens: the gradients by the filters, and in row W those by the biases.
template <int W>
struct FilterSums {
    float rows[W + 1][kChannels] = {};

    /// Adds a step, given its gradient by the results before SiLU.
    __device__ void add(const float (&gradient)[kChannels], const Window<W>& x) {
#pragma unroll
        for (int v = 0; v < kChannels; ++v) {
#pragma unroll
            for (int k = 0; k < W; ++k) rows[k][v] += gradient[v] * x.values[k][v];
            rows[W][v] += gradient[v];
        }
    }

    /// Adds up those of a block's warps and writes them; every thread of the block must be here.
    __device__ void write(const CausalConv1dInputs& p, const CausalConv1dWork& work, const Place& at) const {
        __shared__ float sums[kWarps][W + 1][kGroup];
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

/// Walks a chunk: writes the gradient by its inputs, returns the sums.
template <typename T, int W>
__device__ FilterSums<W> walk(const CausalConv1dBackward& params, const Place& at) {
    const CausalConv1dInputs& p = params.inputs;
    const Filters<W> filters(p, at);
    const Columns<const T> x(p.x, p.x_batch_stride, p.x_token_stride, at);
    const Columns<const T> grad_out(params.grad_out, params.grad_out_batch_stride, params.grad_out_token_stride, at);
    const Columns<T> grad_x(params.grad_x, params.grad_x_batch_stride, params.grad_x_token_stride, at);

    FilterSums<W> sums;
    Window<W> window = window_before<T, W>(x, p.token_map, at.first);
    Window<W> grad_y;  // by the result of the step at hand and of the W - 1 before it
    const int last = at.end + W - 1, length = p.token;
    for (int first = at.first; first < last; first += kBackwardTile) {
        int tokens[kBackwardTile];
        Pack<T> values[kBackwardTile], gradients[kBackwardTile];
        tokens_from(p.token_map, first, min(last, length) - 1, tokens);
        x.load(tokens, values);
        grad_out.load(tokens, gradients);
#pragma unroll
        for (int t = 0; t < kBackwardTile; ++t) {
            const int step = first + t;
            window.push(values[t]);
            float gradient[kChannels], counted[kChannels], result[kChannels];
#pragma unroll
            for (int v = 0; v < kChannels; ++v) {
                gradient[v] = step < length ? to_float(gradients[t].values[v]) : 0.0f;
                const float y = filters(window, v);
                if (p.silu) gradient[v] *= silu_slope(y, sigmoid(y));
                counted[v] = step < at.end ? gradient[v] : 0.0f;
            }
            sums.add(counted, window);
            grad_y.push(gradient);
            const int input = step - (W - 1);  // no later step reads this one
            if (input < at.first || step >= last) continue;
#pragma unroll
            for (int v = 0; v < kChannels; ++v) {
                result[v] = 0.0f;
#pragma unroll
                for (int k = 0; k < W; ++k) result[v] += filters.weight[k][v] * grad_y.values[W - 1 - k][v];
            }
            grad_x.store(token_of(p.token_map, input), pack<T>(result));
        }
    }
    return sums;
}

template <typename T, int W>
__device__ void backward(const CausalConv1dBackward& params, const CausalConv1dWork& work) {
    const Place at(params.inputs, work);
    FilterSums<W> sums;
    if (!at.idle()) sums = walk<T, W>(params, at);
    sums.write(params.inputs, work, at);
}

}  // namespace causal_conv1d
