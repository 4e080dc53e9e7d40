// The gradients of the convolution.
//
// The gradient by the input of step l needs those by the results of steps l .. l + W - 1, so a thread walks W - 1 steps
// beyond its chunk, and recomputes there what its neighbour computes too. Sums over a chunk are taken here, in the
// order of the steps; `sum_partials` sums over chunks and the batch.
#pragma once

#include "causal_conv1d/convolution.cuh"
#include "causal_conv1d/workspace.h"

namespace causal_conv1d {

constexpr int kBackwardTile = 4;  // steps whose inputs are loaded together

template <typename T, int W>
__device__ void backward(const CausalConv1dBackward& params, const CausalConv1dWorkspace& workspace) {
    const CausalConv1dInputs& p = params.inputs;
    const Place at(p);
    if (at.channel >= static_cast<int>(p.channel)) return;
    const Filter<W> filter(p, at.channel);
    const Column<const T> x(p.x, p.x_batch_stride, p.x_token_stride, at.batch, at.channel);
    const Column<const T> grad_out(params.grad_out, params.grad_out_batch_stride, params.grad_out_token_stride,
                                   at.batch, at.channel);
    const Column<T> grad_x(params.grad_x, params.grad_x_batch_stride, params.grad_x_token_stride, at.batch, at.channel);

    float grad_weight[W] = {};
    float grad_bias = 0.0f;
    Window<W> window = window_before<T, W>(x, p.token_map, at.first);
    Window<W> grad_y;  // by the result of the step at hand and of the W - 1 before it
    const int last = at.end + W - 1;
    for (int first = at.first; first < last; first += kBackwardTile) {
        float values[kBackwardTile], gradients[kBackwardTile];
#pragma unroll
        for (int t = 0; t < kBackwardTile; ++t) {
            const int step = first + t;
            const bool exists = step < min(last, static_cast<int>(p.token));
            const int token = exists ? token_of(p.token_map, step) : 0;
            values[t] = exists ? to_float(x[token]) : 0.0f;
            gradients[t] = exists ? to_float(grad_out[token]) : 0.0f;
        }
#pragma unroll
        for (int t = 0; t < kBackwardTile; ++t) {
            const int step = first + t;
            if (step >= last) break;
            window.push(values[t]);
            float gradient = gradients[t];
            if (p.silu) {
                const float y = filter(window);
                gradient *= silu_slope(y, sigmoid(y));
            }
            grad_y.push(gradient);
            if (step < at.end) {
                grad_bias += gradient;
#pragma unroll
                for (int k = 0; k < W; ++k) grad_weight[k] += gradient * window.values[k];
            }
            const int input = step - (W - 1);  // no later step reads this one
            if (input >= at.first) {
                float sum = 0.0f;
#pragma unroll
                for (int k = 0; k < W; ++k) sum += filter.weight[k] * grad_y.values[W - 1 - k];
                grad_x[token_of(p.token_map, input)] = from_float<T>(sum);
            }
        }
    }

    const int64_t chunks = divide_up(p.token, kChunk);
    const int64_t index = (at.batch * chunks + at.chunk) * p.channel + at.channel;
#pragma unroll
    for (int k = 0; k < W; ++k) workspace.partial_weight[index * W + k] = grad_weight[k];
    workspace.partial_bias[index] = grad_bias;
}

}  // namespace causal_conv1d
