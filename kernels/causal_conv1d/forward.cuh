// The convolution and SiLU.
#pragma once

#include "causal_conv1d/convolution.cuh"

namespace causal_conv1d {

constexpr int kTile = 8;  // steps whose inputs are loaded together

template <typename T, int W>
__device__ void forward(const CausalConv1dForward& params) {
    const CausalConv1dInputs& p = params.inputs;
    const Place at(p);
    if (at.channel >= static_cast<int>(p.channel)) return;
    const Filter<W> filter(p, at.channel);
    const Column<const T> x(p.x, p.x_batch_stride, p.x_token_stride, at.batch, at.channel);
    const Column<T> out(params.out, params.out_batch_stride, params.out_token_stride, at.batch, at.channel);

    Window<W> window = window_before<T, W>(x, p.token_map, at.first);
    for (int first = at.first; first < at.end; first += kTile) {
        int tokens[kTile];
        float values[kTile];
#pragma unroll
        for (int t = 0; t < kTile; ++t) tokens[t] = first + t < at.end ? token_of(p.token_map, first + t) : 0;
#pragma unroll
        for (int t = 0; t < kTile; ++t) values[t] = to_float(x[tokens[t]]);
#pragma unroll
        for (int t = 0; t < kTile; ++t) {
            if (first + t >= at.end) break;
            window.push(values[t]);
            const float y = filter(window);
            out[tokens[t]] = from_float<T>(p.silu ? y * sigmoid(y) : y);
        }
    }
}

}  // namespace causal_conv1d
