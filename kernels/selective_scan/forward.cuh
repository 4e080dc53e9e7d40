// The scan: reads u, delta, B, C, z once, writes the output once.
#pragma once

#include "selective_scan/scan.cuh"

namespace selective_scan {

template <typename T, int N>
__device__ void forward(const SelectiveScanForward& params) {
    __shared__ Matrices<N> matrices[2];
    const SelectiveScanInputs& p = params.inputs;
    const Place<N> at(p);
    const Channel<N> channel(p, at);
    const Column<const T> u_column(p.u, p.u_batch_stride, p.u_token_stride, at.batch, at.channel);
    const Column<const T> delta_column(p.delta, p.delta_batch_stride, p.delta_token_stride, at.batch, at.channel);
    const Column<const T> z_column(p.z, p.z_batch_stride, p.z_token_stride, at.batch, at.channel);
    const Column<T> out(params.out, params.out_batch_stride, params.out_token_stride, at.batch, at.channel);

    float h[Split<N>::kStates];
    load_states<N>(h, p.initial_state, p.initial_state_batch_stride, p.initial_state_channel_stride, at);
    for (int first = 0; first < static_cast<int>(p.token); first += kChunk) {
        const int count = min(kChunk, static_cast<int>(p.token) - first);
        // Two tiles in turn: whoever fills one has seen all threads leave it at the barrier of the other.
        Matrices<N>& tile = matrices[first / kChunk % 2];
        tile.template load<T>(p, at.batch, first, count);

        int tokens[kChunk];
        float u[kChunk], delta[kChunk], z[kChunk];
        load_tokens(tokens, p.token_map, first, count);
        load_chunk<T>(u, u_column, tokens, at.active ? count : 0);
        load_chunk<T>(delta, delta_column, tokens, at.active ? count : 0);
        load_chunk<T>(z, z_column, tokens, at.active && p.z ? count : 0);
        __syncthreads();

#pragma unroll
        for (int t = 0; t < kChunk; ++t) {
            if (t >= count) break;
            channel.advance(h, channel.step_size(delta[t]), u[t], tile.b[t] + at.state);
            float y = dot<N>(h, tile.c[t] + at.state) + channel.d * u[t];
            if (p.z) y *= z[t] * sigmoid(z[t]);
            if (at.speaks) out[tokens[t]] = from_float<T>(y);
        }
    }
    store_states<N>(h, params.last_state, params.last_state_batch_stride, params.last_state_channel_stride, at);
}

}  // namespace selective_scan
