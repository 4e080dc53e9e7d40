// The convolution and SiLU.
#pragma once

#include "causal_conv1d/convolution.cuh"

namespace causal_conv1d {

constexpr int kTile = 4;  // steps whose inputs are loaded together

/// Blocks that a multiprocessor must have room for: what the registers of narrow filters allow.
constexpr int forward_blocks(int width) { return width <= 3 ? 7 : 4; }

template <typename T, int W>
__device__ void forward(const CausalConv1dForward& params, const CausalConv1dWork& work) {
    const CausalConv1dInputs& p = params.inputs;
    const Place at(p, work);
    if (at.idle()) return;
    const Filters<W> filters(p, at);
    const Columns<const T> x(p.x, p.x_batch_stride, p.x_token_stride, at);
    const Columns<T> out(params.out, params.out_batch_stride, params.out_token_stride, at);

    Trail<W, kTile> trail = trail_before<kTile, W>(x, p.token_map, at.first);
    for (int first = at.first; first < at.end; first += kTile) {
        int tokens[kTile];
        Pack<T> values[kTile];
        tokens_from(p.token_map, first, at.end - 1, tokens);
        x.load(tokens, values);
#pragma unroll
        for (int t = 0; t < kTile; ++t) trail.set(t, values[t]);
#pragma unroll
        for (int t = 0; t < kTile; ++t) {
            float result[kChannels];
#pragma unroll
            for (int v = 0; v < kChannels; ++v) {
                const float y = filters(trail, t, v);
                result[v] = p.silu ? y * sigmoid(y) : y;
            }
            values[t] = pack<T>(result);
        }
        out.store(tokens, values, 0, at.end - first);
        trail.advance();
    }
}

}  // namespace causal_conv1d
