// What the scan's kernels share: who holds which states, the tile of B and C, and one step of the recurrence.
//
// A thread holds up to 16 states of one channel in registers and walks the tokens in order. A channel with more states
// is shared by neighbouring threads. A block holds neighbouring channels of one sequence, so that a token's row of u,
// delta, z and out is read and written as a whole, and its B and C are staged in shared memory for all.
#pragma once

#include "common/access.cuh"
#include "common/dtype.cuh"
#include "common/math.cuh"
#include "common/reduce.cuh"
#include "selective_scan/params.h"

namespace selective_scan {

// The launching side has the same three numbers.
constexpr int kThreads = 128;   // of a block
constexpr int kMaxStates = 16;  // of a channel in one thread
constexpr int kChunk = 8;       // tokens that a block takes at a time

/// How the N states of a channel are split over threads.
template <int N>
struct Split {
    static constexpr int kStates = N < kMaxStates ? N : kMaxStates;
    static constexpr int kLanes = N / kStates;
    static constexpr int kChannels = kThreads / kLanes;
    static_assert(kStates * kLanes == N && kWarp % kLanes == 0);
};

/// A thread's place: its sequence, its channel, its first state. The grid is batch × groups of channels.
template <int N>
struct Place {
    int group;
    int batch;
    int channel;
    int state;
    bool active;  // Threads beyond the last channel join in barriers and sums, with zeros.
    bool speaks;  // One thread of a channel writes what belongs to the channel.

    __device__ explicit Place(const SelectiveScanInputs& p) {
        const int groups = divide_up(p.channel, Split<N>::kChannels);
        const int lane = threadIdx.x % Split<N>::kLanes;
        group = blockIdx.x % groups;
        batch = blockIdx.x / groups;
        channel = group * Split<N>::kChannels + threadIdx.x / Split<N>::kLanes;
        state = lane * Split<N>::kStates;
        active = channel < static_cast<int>(p.channel);
        speaks = active && lane == 0;
    }
};

/// B and C of a chunk's tokens, in shared memory.
template <int N>
struct Matrices {
    alignas(16) float b[kChunk][N];
    alignas(16) float c[kChunk][N];

    template <typename T>
    __device__ void load(const SelectiveScanInputs& p, int batch, int first, int count) {
        for (int i = threadIdx.x; i < count * N; i += kThreads) {
            const int t = i / N, n = i % N;
            const int token = token_of(p.token_map, first + t);
            b[t][n] = to_float(Column<const T>(p.b, p.b_batch_stride, p.b_token_stride, batch, n)[token]);
            c[t][n] = to_float(Column<const T>(p.c, p.c_batch_stride, p.c_token_stride, batch, n)[token]);
        }
    }
};

/// This thread's states of a tensor [B, E, N], or zeros if it is absent.
template <int N>
__device__ void load_states(float (&h)[Split<N>::kStates], const float* states, int64_t batch_stride,
                            int64_t channel_stride, const Place<N>& at) {
    const Column<const float> first(states, batch_stride, channel_stride, at.batch, at.state);
#pragma unroll
    for (int n = 0; n < Split<N>::kStates; ++n) h[n] = states && at.active ? (&first[at.channel])[n] : 0.0f;
}

/// Writes this thread's states of a tensor [B, E, N], unless it is absent.
template <int N>
__device__ void store_states(const float (&h)[Split<N>::kStates], float* states, int64_t batch_stride,
                             int64_t channel_stride, const Place<N>& at) {
    if (!states || !at.active) return;
    const Column<float> first(states, batch_stride, channel_stride, at.batch, at.state);
#pragma unroll
    for (int n = 0; n < Split<N>::kStates; ++n) (&first[at.channel])[n] = h[n];
}

/// What of a channel stays the same along the tokens.
template <int N>
struct Channel {
    float a_log2[Split<N>::kStates];  // A log2(e): exp(delta A) = 2^(delta a_log2)
    float d;
    float delta_bias;
    bool delta_softplus;

    __device__ Channel(const SelectiveScanInputs& p, const Place<N>& at) {
        load_states<N>(a_log2, p.a, 0, p.a_channel_stride, at);
#pragma unroll
        for (int n = 0; n < Split<N>::kStates; ++n) a_log2[n] *= kLog2E;
        d = at.active ? element_or_zero(p.d, at.channel) : 0.0f;
        delta_bias = at.active ? element_or_zero(p.delta_bias, at.channel) : 0.0f;
        delta_softplus = p.delta_softplus != 0;
    }

    /// The step size, from the raw delta.
    __device__ float step_size(float raw) const {
        return delta_softplus ? softplus(raw + delta_bias) : raw + delta_bias;
    }

    /// Its derivative by the raw delta.
    __device__ float step_size_slope(float raw) const {
        return delta_softplus ? softplus_slope(raw + delta_bias) : 1.0f;
    }

    /// h_l = exp(delta A) h_{l-1} + delta B u
    __device__ void advance(float (&h)[Split<N>::kStates], float delta, float u, const float* b) const {
        const float delta_u = delta * u;
#pragma unroll
        for (int n = 0; n < Split<N>::kStates; ++n) h[n] = exp2_fast(delta * a_log2[n]) * h[n] + delta_u * b[n];
    }
};

/// Sum over the states of C h, in every thread of the channel.
template <int N>
__device__ float dot(const float (&h)[Split<N>::kStates], const float* c) {
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < Split<N>::kStates; ++n) sum += c[n] * h[n];
    return sum_over_neighbours<Split<N>::kLanes>(sum);
}

/// The tokens of a chunk's steps.
__device__ inline void load_tokens(int (&tokens)[kChunk], const uint32_t* token_map, int first, int count) {
#pragma unroll
    for (int t = 0; t < kChunk; ++t) tokens[t] = t < count ? token_of(token_map, first + t) : 0;
}

/// A channel's values at a chunk's tokens, zeros where there are none: all loads are under way before one is used.
template <typename T>
__device__ void load_chunk(float (&values)[kChunk], const Column<const T>& column, const int (&tokens)[kChunk],
                           int count) {
#pragma unroll
    for (int t = 0; t < kChunk; ++t) values[t] = t < count ? to_float(column[tokens[t]]) : 0.0f;
}

}  // namespace selective_scan
