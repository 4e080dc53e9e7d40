// The states before every chunk, for the backward pass; and what a segment of a split sequence needs of the others.
//
// Each segment is walked forwards from zeros, for the states behind it, and in a backward pass also backwards, for the
// gradient that it alone brings to its first state. `join` passes both on from segment to segment: the decay of a whole
// segment is exp(A Δ), with Δ the sum of its step sizes.
#pragma once

#include "selective_scan/layout.cuh"

namespace selective_scan {

/// One walk's shared memory: `matrix` is B or C, `product` delta u or the gradient of y.
template <typename L>
struct StatesShared {
    MatrixRows<L::kStates, L::kHeld> matrix[2];
    WarpTile<L, kChunk> delta[kWarps], product[kWarps];
    TokenRing<L::kStretch> ring;
};

/// Walks a segment. Forwards h = decay h + product B; backwards h = decay (h + product C).
template <typename T, typename L, bool kBackwards>
__device__ void walk_segment(const SelectiveScanBackward& params, const SelectiveScanWorkspace& workspace, int block,
                             StatesShared<L>& shared) {
    constexpr int C = L::kOwned;
    constexpr int kOwn = kChunk / L::kLanes;
    const SelectiveScanInputs& p = params.inputs;
    const Segment segment(p, block, L::kChannels, workspace.segments, workspace.segment_tokens);
    Walk<L::kStretch, kBackwards> walk(p, segment);
    const int batch = segment.batch;
    const Place<L> at(segment.group, p.channel);
    const bool split = workspace.segments > 1;
    auto& shared_delta = shared.delta[threadIdx.x / kWarp];
    auto& shared_product = shared.product[threadIdx.x / kWarp];

    const Elements<T, C> first = kBackwards ? Elements<T, C>(params.grad_out, params.grad_out_batch_stride,
                                                             params.grad_out_token_stride, batch, at)
                                            : Elements<T, C>(p.u, p.u_batch_stride, p.u_token_stride, batch, at);
    const Elements<T, C> delta(p.delta, p.delta_batch_stride, p.delta_token_stride, batch, at);
    const Elements<T, C> z =
        kBackwards && p.z ? Elements<T, C>(p.z, p.z_batch_stride, p.z_token_stride, batch, at) : first;
    const bool whole = at.exist == 2 && moves_pairs<T>(p.u, p.u_batch_stride, p.u_token_stride) &&
                       moves_pairs<T>(p.delta, p.delta_batch_stride, p.delta_token_stride) &&
                       moves_pairs<T>(p.z, p.z_batch_stride, p.z_token_stride) &&
                       moves_pairs<T>(params.grad_out, params.grad_out_batch_stride, params.grad_out_token_stride);
    PairFetch<T, L::kStates> matrix(kBackwards ? p.c : p.b, kBackwards ? p.c_batch_stride : p.b_batch_stride,
                                    kBackwards ? p.c_token_stride : p.b_token_stride, batch);
    float bias[C], a[C][L::kHeld], h[C][L::kHeld], sums[C] = {};
    load_vector<L>(bias, p.delta_bias, at);
    load_a<T, L>(a, p, at);
    if constexpr (kBackwards) {
        const bool last = segment.number + 1 == static_cast<int>(workspace.segments);
        load_states<L>(h, last ? params.grad_last_state : nullptr, params.grad_last_state_batch_stride,
                       params.grad_last_state_channel_stride, batch, at);
    } else {
        load_states<L>(h, segment.number == 0 ? p.initial_state : nullptr, p.initial_state_batch_stride,
                       p.initial_state_channel_stride, batch, at);
    }

    walk.begin(shared.ring);
    __syncthreads();
    matrix.fetch(shared.ring.of(0));
    typename Elements<T, C>::Pair first_ahead[kOwn], delta_ahead[kOwn], z_ahead[kOwn];
    const auto read = [&](int i, int token) {
        first_ahead[i] = first.read(token, whole, at.exist);
        delta_ahead[i] = delta.read(token, whole, at.exist);
        if (kBackwards) z_ahead[i] = z.read(token, whole, at.exist);
    };
#pragma unroll
    for (int i = 0; i < kOwn; ++i) read(i, shared.ring.of(0)[i * L::kLanes + at.lane]);

    const int64_t chunks = divide_up(p.token, kChunk), channels = p.channel;
    int64_t row = batch * chunks + segment.first / kChunk;  // of the chunk at hand, in the workspace
    for (int stretch = 0; stretch * L::kStretch < walk.positions; ++stretch) {
        auto& rows = shared.matrix[stretch % 2];
        matrix.put(rows);
        walk.turn(shared.ring, stretch);
        __syncthreads();
        matrix.fetch(shared.ring.of(stretch + 1));

        for (int chunk = 0; chunk < L::kStretch; chunk += kChunk, ++row) {
            const int place = stretch * L::kStretch + chunk;
            if (place >= walk.positions) break;
            const int* tokens_ahead =
                chunk + kChunk < L::kStretch ? shared.ring.of(stretch) + chunk + kChunk : shared.ring.of(stretch + 1);
            if (!kBackwards && workspace.chunk_states) {
                store_quads<L>(h, workspace.chunk_states + row * channels * L::kStates, channels, at);
                if (split && at.lane == 0) {
#pragma unroll
                    for (int j = 0; j < C; ++j) {
                        if (j < at.exist) workspace.chunk_deltas[row * channels + at.channel + j] = sums[j];
                    }
                }
            }
#pragma unroll
            for (int i = 0; i < kOwn; ++i) {
                const int t = i * L::kLanes + at.lane;
                float input[C], size[C], gate[C];
                Elements<T, C>::convert(input, first_ahead[i]);
                Elements<T, C>::convert(size, delta_ahead[i]);
                if (kBackwards) Elements<T, C>::convert(gate, z_ahead[i]);
                read(i, tokens_ahead[t]);
#pragma unroll
                for (int j = 0; j < C; ++j) {
                    const bool exists = walk.exists(place + t);
                    size[j] = step_size<T>(size[j], bias[j], p.delta_softplus, exists);
                    if constexpr (kBackwards) {
                        if (p.z) input[j] *= gate[j] * sigmoid<T>(gate[j]);
                        if (!exists) input[j] = 0.0f;
                    } else {
                        input[j] *= size[j];
                    }
                }
                shared_delta.set(t, at.local, size);
                shared_product.set(t, at.local, input);
            }
            __syncwarp();
#pragma unroll
            for (int t = 0; t < kChunk; ++t) {
                float matrix_row[L::kHeld], size[C], product[C];
                rows.load(matrix_row, chunk + t, at.state);
                shared_delta.get(size, t, at.local);
                shared_product.get(product, t, at.local);
#pragma unroll
                for (int j = 0; j < C; ++j) {
                    sums[j] += size[j];
#pragma unroll
                    for (int n = 0; n < L::kHeld; ++n) {
                        const float decay = decay_of<T>(size[j] * a[j][n]);
                        if constexpr (kBackwards) {
                            h[j][n] = decay * (h[j][n] + product[j] * matrix_row[n]);
                        } else {
                            h[j][n] = decay * h[j][n] + product[j] * matrix_row[n];
                        }
                    }
                }
            }
            __syncwarp();  // the next chunk's values overwrite what was just read
        }
    }

    if (!split) return;
    const int64_t segment_row = (static_cast<int64_t>(batch) * workspace.segments + segment.number) * channels;
    store_states<L>(h, (kBackwards ? workspace.segment_gradients : workspace.segment_states) + segment_row * L::kStates,
                    0, L::kStates, 0, at);
    if (!kBackwards && at.lane == 0) {
#pragma unroll
        for (int j = 0; j < C; ++j) {
            if (j < at.exist) workspace.segment_deltas[segment_row + at.channel + j] = sums[j];
        }
    }
}

/// Blocks of the first half of the grid walk forwards; there is a second half only in a backward pass over a split
/// sequence.
template <typename T, typename L>
__device__ void states(const SelectiveScanBackward& params, const SelectiveScanWorkspace& workspace) {
    __shared__ StatesShared<L> shared;
    const SelectiveScanInputs& p = params.inputs;
    const int half = divide_up(p.channel, L::kChannels) * workspace.segments * p.batch;
    if (static_cast<int>(blockIdx.x) < half) {
        walk_segment<T, L, false>(params, workspace, blockIdx.x, shared);
    } else {
        walk_segment<T, L, true>(params, workspace, blockIdx.x - half, shared);
    }
}

constexpr int kJoinedAtOnce = 8;  // segments whose numbers are read before the first is needed

/// Passes states and gradients on between the segments, one thread for a state of a channel.
template <int N>
__device__ void join(const SelectiveScanInputs& p, const SelectiveScanWorkspace& workspace) {
    const int64_t states = static_cast<int64_t>(p.channel) * N;
    const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (index >= states * p.batch) return;
    const int64_t batch = index / states, channel = index % states / N, state = index % N;
    const float a = p.a[channel * p.a_channel_stride + state];
    const int segments = workspace.segments;
    const float* deltas = workspace.segment_deltas + batch * segments * p.channel + channel;

    // Replaces what each segment makes of zeros by what it starts from, which the walk hands from one to the next.
    const auto pass_on = [&](float* values, bool backwards) {
        float start = 0.0f;
        for (int done = 0; done < segments; done += kJoinedAtOnce) {
            float own[kJoinedAtOnce], sums[kJoinedAtOnce];
            const auto segment = [&](int i) {
                const int number = min(done + i, segments - 1);
                return static_cast<int64_t>(backwards ? segments - 1 - number : number);
            };
#pragma unroll
            for (int i = 0; i < kJoinedAtOnce; ++i) {
                own[i] = values[segment(i) * states];
                sums[i] = deltas[segment(i) * p.channel];
            }
#pragma unroll
            for (int i = 0; i < kJoinedAtOnce; ++i) {
                if (done + i >= segments) break;
                values[segment(i) * states] = start;
                start = own[i] + expf(a * sums[i]) * start;
            }
        }
    };
    // The first segment started from the true state, and the last from the true gradient.
    const int64_t first = batch * segments * states + channel * N + state;
    pass_on(workspace.segment_states + first, false);
    if (workspace.segment_gradients) pass_on(workspace.segment_gradients + first, true);
}

}  // namespace selective_scan
