// The gradients of the scan, from the states that `states` kept.
//
// Walks the chunks backwards: recomputes the states inside a chunk into shared memory, then follows the chain rule back
// through them. Sums over channels (for B and C) are taken over a block here and over blocks by `sum_partials`, which
// also sums over the batch (for A, D and the bias). Every sum has a fixed order: the same input gives the same bits.
#pragma once

#include "selective_scan/states.cuh"

namespace selective_scan {

/// Shared memory of `backward`; the launching side computes its size too.
template <int N>
struct BackwardShared {
    static constexpr int kWarps = kThreads / kWarp;

    Matrices<N> matrices;
    float partials[kWarps][kChunk][2][N];               // B's, then C's
    float before[kChunk][Split<N>::kStates][kThreads];  // the states before each step: a thread's own, in its bank
};

/// Writes a block's sums of a chunk's gradients of B and C: the warps' sums, added in the order of the warps.
template <int N>
__device__ void store_partials(const SelectiveScanWorkspace& workspace, const SelectiveScanInputs& p,
                               const BackwardShared<N>& shared, const Place<N>& at, int first, int count) {
    for (int i = threadIdx.x; i < count * 2 * N; i += kThreads) {
        const int t = i / (2 * N), matrix = i / N % 2, n = i % N;
        float sum = 0.0f;
#pragma unroll
        for (int warp = 0; warp < BackwardShared<N>::kWarps; ++warp) sum += shared.partials[warp][t][matrix][n];
        const int64_t sequence = static_cast<int64_t>(at.group) * p.batch + at.batch;
        const int64_t row = sequence * p.token + token_of(p.token_map, first + t);
        (matrix == 0 ? workspace.partial_b : workspace.partial_c)[row * N + n] = sum;
    }
}

template <typename T, int N>
__device__ void backward(const SelectiveScanBackward& params, const SelectiveScanWorkspace& workspace) {
    constexpr int kStates = Split<N>::kStates;
    constexpr int kLanes = Split<N>::kLanes;
    using Sums = WarpSums<2 * kStates, kLanes>;
    extern __shared__ __align__(16) unsigned char memory[];
    BackwardShared<N>& shared = *reinterpret_cast<BackwardShared<N>*>(memory);

    const SelectiveScanInputs& p = params.inputs;
    const Place<N> at(p);
    const Channel<N> channel(p, at);
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    const Column<const T> u_column(p.u, p.u_batch_stride, p.u_token_stride, at.batch, at.channel);
    const Column<const T> delta_column(p.delta, p.delta_batch_stride, p.delta_token_stride, at.batch, at.channel);
    const Column<const T> z_column(p.z, p.z_batch_stride, p.z_token_stride, at.batch, at.channel);
    const Column<const T> grad_out_column(params.grad_out, params.grad_out_batch_stride, params.grad_out_token_stride,
                                          at.batch, at.channel);
    const Column<T> grad_u(params.grad_u, params.grad_u_batch_stride, params.grad_u_token_stride, at.batch, at.channel);
    const Column<T> grad_delta(params.grad_delta, params.grad_delta_batch_stride, params.grad_delta_token_stride,
                               at.batch, at.channel);
    const Column<T> grad_z(params.grad_z, params.grad_z_batch_stride, params.grad_z_token_stride, at.batch, at.channel);

    float grad_h[kStates];  // by the states after the step at hand
    float grad_a[kStates] = {};
    float grad_d = 0.0f, grad_delta_bias = 0.0f;
    load_states<N>(grad_h, params.grad_last_state, params.grad_last_state_batch_stride,
                   params.grad_last_state_channel_stride, at);

    for (int chunk = divide_up(p.token, kChunk) - 1; chunk >= 0; --chunk) {
        const int first = chunk * kChunk;
        const int count = min(kChunk, static_cast<int>(p.token) - first);
        shared.matrices.template load<T>(p, at.batch, first, count);

        int tokens[kChunk];
        float u[kChunk], raw[kChunk], z[kChunk], grad_out[kChunk], h[kStates];
        load_tokens(tokens, p.token_map, first, count);
        load_chunk<T>(u, u_column, tokens, at.active ? count : 0);
        load_chunk<T>(raw, delta_column, tokens, at.active ? count : 0);
        load_chunk<T>(z, z_column, tokens, at.active && p.z ? count : 0);
        load_chunk<T>(grad_out, grad_out_column, tokens, at.active ? count : 0);
        const Column<float> kept = chunk_states(workspace, p, at, chunk);
#pragma unroll
        for (int n = 0; n < kStates; ++n) h[n] = at.active ? kept[n] : 0.0f;
        __syncthreads();

#pragma unroll
        for (int t = 0; t < kChunk; ++t) {
            if (t >= count) break;
#pragma unroll
            for (int n = 0; n < kStates; ++n) shared.before[t][n][threadIdx.x] = h[n];
            channel.advance(h, channel.step_size(raw[t]), u[t], shared.matrices.b[t] + at.state);
        }

        // Here h are the states after the chunk; in the loop, those after step t.
#pragma unroll
        for (int t = kChunk - 1; t >= 0; --t) {
            if (t >= count) continue;
            const float* b = shared.matrices.b[t] + at.state;
            const float* c = shared.matrices.c[t] + at.state;
            const float delta = channel.step_size(raw[t]);
            float grad_y = grad_out[t];
            if (p.z) {
                const float y = dot<N>(h, c) + channel.d * u[t];
                const float s = sigmoid(z[t]);
                if (at.speaks && params.grad_z) grad_z[tokens[t]] = from_float<T>(grad_y * y * silu_slope(z[t], s));
                grad_y *= z[t] * s;
            }

            float grad_bc[2 * kStates];  // this channel's share: B's, then C's
            float by_b = 0.0f, by_decay = 0.0f;
            const float delta_u = delta * u[t];
#pragma unroll
            for (int n = 0; n < kStates; ++n) {
                grad_h[n] += grad_y * c[n];
                grad_bc[n] = grad_h[n] * delta_u;
                grad_bc[kStates + n] = grad_y * h[n];
                h[n] = shared.before[t][n][threadIdx.x];
                const float decay = exp2_fast(delta * channel.a_log2[n]);
                const float by_exponent = grad_h[n] * decay * h[n];  // the gradient by delta A
                grad_a[n] += by_exponent * delta;
                by_decay += by_exponent * channel.a_log2[n];
                by_b += grad_h[n] * b[n];
                grad_h[n] *= decay;
            }
            by_b = sum_over_neighbours<kLanes>(by_b);
            by_decay = sum_over_neighbours<kLanes>(by_decay) * kLn2;
            const float grad_raw = (by_decay + by_b * u[t]) * channel.step_size_slope(raw[t]);
            grad_d += grad_y * u[t];
            grad_delta_bias += grad_raw;
            if (at.speaks) {
                grad_u[tokens[t]] = from_float<T>(by_b * delta + grad_y * channel.d);
                grad_delta[tokens[t]] = from_float<T>(grad_raw);
            }

            Sums::reduce(grad_bc, lane);
#pragma unroll
            for (int i = 0; i < Sums::kKept; ++i) {
                const int sum = Sums::first(lane) + i;
                shared.partials[warp][t][sum / kStates][at.state + sum % kStates] = grad_bc[i];
            }
        }
        __syncthreads();
        store_partials<N>(workspace, p, shared, at, first, count);
    }

    store_states<N>(grad_h, params.grad_initial_state, params.grad_initial_state_batch_stride,
                    params.grad_initial_state_channel_stride, at);
    const int64_t channels = p.channel;
    store_states<N>(grad_a, workspace.partial_a, channels * N, N, at);
    if (at.speaks) {
        workspace.partial_d[at.batch * channels + at.channel] = grad_d;
        workspace.partial_delta_bias[at.batch * channels + at.channel] = grad_delta_bias;
    }
}

}  // namespace selective_scan
