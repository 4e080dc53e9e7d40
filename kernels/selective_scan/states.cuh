// The first half of the backward pass: walks the tokens forwards and keeps the states before every chunk.
#pragma once

#include "selective_scan/scan.cuh"
#include "selective_scan/workspace.h"

namespace selective_scan {

/// This thread's states before a chunk, in the workspace [B, K, N, E].
template <int N>
__device__ Column<float> chunk_states(const SelectiveScanWorkspace& workspace, const SelectiveScanInputs& p,
                                      const Place<N>& at, int chunk) {
    const int64_t chunks = divide_up(p.token, kChunk);
    const int64_t channels = p.channel;
    return {workspace.chunk_states + at.state * channels, N * channels, channels, at.batch * chunks + chunk,
            at.channel};
}

template <typename T, int N>
__device__ void states(const SelectiveScanBackward& params, const SelectiveScanWorkspace& workspace) {
    __shared__ Matrices<N> matrices[2];
    const SelectiveScanInputs& p = params.inputs;
    const Place<N> at(p);
    const Channel<N> channel(p, at);
    const Column<const T> u_column(p.u, p.u_batch_stride, p.u_token_stride, at.batch, at.channel);
    const Column<const T> delta_column(p.delta, p.delta_batch_stride, p.delta_token_stride, at.batch, at.channel);

    float h[Split<N>::kStates];
    load_states<N>(h, p.initial_state, p.initial_state_batch_stride, p.initial_state_channel_stride, at);
    for (int first = 0; first < static_cast<int>(p.token); first += kChunk) {
        const int count = min(kChunk, static_cast<int>(p.token) - first);
        Matrices<N>& tile = matrices[first / kChunk % 2];  // in turn, as in the forward pass
        tile.template load<T>(p, at.batch, first, count);
        if (at.active) {
            const Column<float> kept = chunk_states(workspace, p, at, first / kChunk);
#pragma unroll
            for (int n = 0; n < Split<N>::kStates; ++n) kept[n] = h[n];
        }

        int tokens[kChunk];
        float u[kChunk], delta[kChunk];
        load_tokens(tokens, p.token_map, first, count);
        load_chunk<T>(u, u_column, tokens, at.active ? count : 0);
        load_chunk<T>(delta, delta_column, tokens, at.active ? count : 0);
        __syncthreads();

#pragma unroll
        for (int t = 0; t < kChunk; ++t) {
            if (t >= count) break;
            channel.advance(h, channel.step_size(delta[t]), u[t], tile.b[t] + at.state);
        }
    }
}

}  // namespace selective_scan
