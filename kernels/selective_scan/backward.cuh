// The gradients of the scan, from the states that `states` kept.
//
// Walks the chunks backwards: recomputes the states inside a chunk into shared memory, then follows the chain rule back
// through them. Sums over channels (for B and C) are taken over a block here and over blocks by `sum_partials`, which
// also sums over the batch (for A, D and the bias). Every sum has a fixed order: the same input gives the same bits.
#pragma once

#include <cuda_pipeline.h>

#include "selective_scan/states.cuh"

namespace selective_scan {

/// Shared memory of `backward`.
template <typename L>
struct BackwardShared {
    MatrixRows<L::kStates, L::kHeld> b[2], c[2];
    alignas(16) float partials[L::kStretch][kWarps][2][L::kStates];  // sums over a warp's channels: B's, then C's
    // Of every token and channel: the step size and its slope by the raw delta, the former times u, the gradient of y,
    // and what y is to be multiplied with for the gradient of z.
    WarpTile<L, kChunk> delta[kWarps], delta_slope[kWarps], delta_u[kWarps], grad_y[kWarps], z_factor[kWarps];
    TokenRing<L::kStretch> ring;
    float4 chunk_states[2][L::kOwned * L::kHeld / 4][kThreads];  // each thread's own, of the chunk at hand and the next
    alignas(16) float delta_bias[L::kChannels], d[L::kChannels];
};

/// The same as for the inputs, for what is written.
template <typename T, typename L>
__device__ bool is_full(const SelectiveScanBackward& params, const Segment& segment) {
    return L::kOwned == 2 && is_full<T, L>(params.inputs, segment) && params.grad_z &&
           moves_pairs<T>(params.grad_out, params.grad_out_batch_stride, params.grad_out_token_stride) &&
           moves_pairs<T>(params.grad_u, params.grad_u_batch_stride, params.grad_u_token_stride) &&
           moves_pairs<T>(params.grad_delta, params.grad_delta_batch_stride, params.grad_delta_token_stride) &&
           moves_pairs<T>(params.grad_z, params.grad_z_batch_stride, params.grad_z_token_stride);
}

/// Begins to copy a thread's states before a chunk into shared memory, which takes no registers and lets nobody wait.
/// Each thread reads what it copied itself, so no barrier is needed.
template <typename L>
__device__ void copy_chunk_states(BackwardShared<L>& shared, const SelectiveScanInputs& p,
                                  const SelectiveScanWorkspace& workspace, const Segment& segment, const Place<L>& at,
                                  int chunk) {
    constexpr int kQuads = L::kHeld / 4;
    const int64_t row = (segment.batch * static_cast<int64_t>(divide_up(p.token, kChunk)) + chunk) * p.channel;
    const auto* quads = reinterpret_cast<const float4*>(workspace.chunk_states + row * L::kStates);
#pragma unroll
    for (int i = 0; i < L::kOwned * kQuads; ++i) {
        const int64_t quad = static_cast<int64_t>(at.state / 4 + i % kQuads) * p.channel + at.of(i / kQuads);
        __pipeline_memcpy_async(&shared.chunk_states[chunk % 2][i][threadIdx.x], quads + quad, sizeof(float4));
    }
}

/// Writes a block's sums of a stretch's gradients of B and C: the warps' sums, added in the order of the warps.
template <typename L>
__device__ void store_partials(const SelectiveScanWorkspace& workspace, const SelectiveScanInputs& p,
                               const BackwardShared<L>& shared, const Segment& segment,
                               const Walk<L::kStretch, true>& walk, const int* tokens, int position) {
    constexpr int N = L::kStates;
    const int64_t first = (static_cast<int64_t>(segment.group) * p.batch + segment.batch) * p.token;
    for (int i = threadIdx.x; i < L::kStretch * 2 * N / 4; i += kThreads) {
        const int t = i / (2 * N / 4), matrix = i / (N / 4) % 2, n = i % (N / 4) * 4;
        if (position + t >= walk.positions) break;
        if (!walk.exists(position + t)) continue;
        float4 sum = {};
#pragma unroll
        for (int warp = 0; warp < kWarps; ++warp) {
            const float4 own = *reinterpret_cast<const float4*>(&shared.partials[t][warp][matrix][n]);
            sum.x += own.x, sum.y += own.y, sum.z += own.z, sum.w += own.w;
        }
        float* to = matrix == 0 ? workspace.partial_b : workspace.partial_c;
        *reinterpret_cast<float4*>(to + (first + tokens[t]) * N + n) = sum;
    }
}

/// The states before a chunk, which were copied ahead.
template <typename T, typename L>
__device__ void take_chunk_states(float (&h)[L::kOwned][L::kHeld], const float (&a)[L::kOwned][L::kHeld],
                                  const BackwardShared<L>& shared, const SelectiveScanInputs& p,
                                  const SelectiveScanWorkspace& workspace, const Segment& segment, const Place<L>& at,
                                  int chunk) {
    const int64_t channels = p.channel;
    const int64_t row = (segment.batch * static_cast<int64_t>(divide_up(p.token, kChunk)) + chunk) * channels;
#pragma unroll
    for (int j = 0; j < L::kOwned; ++j) {
#pragma unroll
        for (int n = 0; n < L::kHeld; n += 4) {
            const float4 quad = shared.chunk_states[chunk % 2][(j * L::kHeld + n) / 4][threadIdx.x];
            h[j][n] = quad.x, h[j][n + 1] = quad.y, h[j][n + 2] = quad.z, h[j][n + 3] = quad.w;
        }
    }
    if (segment.number == 0) return;
    // They are those of a segment that starts from zeros: add what its true start leaves.
    const int64_t segment_row = (static_cast<int64_t>(segment.batch) * workspace.segments + segment.number) * channels;
    float start[L::kOwned][L::kHeld];
    load_states<L>(start, workspace.segment_states + segment_row * L::kStates, 0, L::kStates, 0, at);
#pragma unroll
    for (int j = 0; j < L::kOwned; ++j) {
        const float sum = workspace.chunk_deltas[row + at.of(j)];
#pragma unroll
        for (int n = 0; n < L::kHeld; ++n) h[j][n] += decay_of<T>(sum * a[j][n]) * start[j][n];
    }
}

template <typename T, typename L, bool kFull>
__device__ void backward(const SelectiveScanBackward& params, const SelectiveScanWorkspace& workspace,
                         const Segment& segment, BackwardShared<L>& shared) {
    constexpr int C = L::kOwned, S = L::kHeld, kLanes = L::kLanes;
    constexpr int kOwn = kChunk / kLanes;  // tokens of a chunk that a thread reads and writes
    using Sums = WarpSums<2 * S, kLanes>;
    const SelectiveScanInputs& p = params.inputs;
    Walk<L::kStretch, true> walk(p, segment);
    const int batch = segment.batch;
    const int warp = threadIdx.x / kWarp, warp_lane = threadIdx.x % kWarp;
    Place<L> at(segment.group, p.channel);
    if (kFull) at.exist = C;
    const bool gated = kFull || p.z, softplus = kFull || p.delta_softplus, wants_grad_z = kFull || params.grad_z;

    const Elements<T, C> u(p.u, p.u_batch_stride, p.u_token_stride, batch, at);
    const Elements<T, C> delta(p.delta, p.delta_batch_stride, p.delta_token_stride, batch, at);
    const Elements<T, C> grad_out(params.grad_out, params.grad_out_batch_stride, params.grad_out_token_stride, batch,
                                  at);
    // Without a gate u stands in for it, so that all the same is read, and the product is left out.
    const Elements<T, C> z = gated ? Elements<T, C>(p.z, p.z_batch_stride, p.z_token_stride, batch, at) : u;
    const Elements<T, C> grad_u(params.grad_u, params.grad_u_batch_stride, params.grad_u_token_stride, batch, at);
    const Elements<T, C> grad_delta(params.grad_delta, params.grad_delta_batch_stride, params.grad_delta_token_stride,
                                    batch, at);
    const Elements<T, C> grad_z(params.grad_z, params.grad_z_batch_stride, params.grad_z_token_stride, batch, at);
    const bool whole =
        kFull ||
        at.exist == 2 && moves_pairs<T>(p.u, p.u_batch_stride, p.u_token_stride) &&
            moves_pairs<T>(p.delta, p.delta_batch_stride, p.delta_token_stride) &&
            moves_pairs<T>(p.z, p.z_batch_stride, p.z_token_stride) &&
            moves_pairs<T>(params.grad_out, params.grad_out_batch_stride, params.grad_out_token_stride) &&
            moves_pairs<T>(params.grad_u, params.grad_u_batch_stride, params.grad_u_token_stride) &&
            moves_pairs<T>(params.grad_delta, params.grad_delta_batch_stride, params.grad_delta_token_stride) &&
            moves_pairs<T>(params.grad_z, params.grad_z_batch_stride, params.grad_z_token_stride);
    PairFetch<T, L::kStates> b(p.b, p.b_batch_stride, p.b_token_stride, batch);
    PairFetch<T, L::kStates> c(p.c, p.c_batch_stride, p.c_token_stride, batch);
    if (kFull) b.whole = c.whole = true;
    float a[C][S], grad_h[C][S], grad_a[C][S] = {}, grad_d[C] = {}, grad_delta_bias[C] = {};
    load_a<T, L>(a, p, at);
    const int64_t channels = p.channel;
    const int64_t segment_row = (static_cast<int64_t>(batch) * workspace.segments + segment.number) * channels;
    if (segment.number + 1 == static_cast<int>(workspace.segments)) {
        load_states<L>(grad_h, params.grad_last_state, params.grad_last_state_batch_stride,
                       params.grad_last_state_channel_stride, batch, at);
    } else {
        load_states<L>(grad_h, workspace.segment_gradients + segment_row * L::kStates, 0, L::kStates, 0, at);
    }

    walk.begin(shared.ring);
    for (int i = threadIdx.x; i < L::kChannels; i += kThreads) {
        const int channel = min(segment.group * L::kChannels + i, static_cast<int>(p.channel) - 1);
        shared.delta_bias[i] = element_or_zero(p.delta_bias, channel);
        shared.d[i] = element_or_zero(p.d, channel);
    }
    __syncthreads();
    b.fetch(shared.ring.of(0));
    c.fetch(shared.ring.of(0));
    // What a thread reads it reads one chunk ahead, as soon as it has used what was there.
    typename Elements<T, C>::Pair u_ahead[kOwn], delta_ahead[kOwn], z_ahead[kOwn], grad_out_ahead[kOwn];
    const auto read = [&](int i, int token) {
        u_ahead[i] = u.read(token, whole, at.exist);
        delta_ahead[i] = delta.read(token, whole, at.exist);
        z_ahead[i] = z.read(token, whole, at.exist);
        grad_out_ahead[i] = grad_out.read(token, whole, at.exist);
    };
#pragma unroll
    for (int i = 0; i < kOwn; ++i) read(i, shared.ring.of(0)[i * kLanes + at.lane]);

    const int first_chunk = segment.first / kChunk;
    int chunk_number = (segment.first + walk.positions) / kChunk;
    if (walk.positions > 0) copy_chunk_states<L>(shared, p, workspace, segment, at, chunk_number - 1);
    __pipeline_commit();
    for (int stretch = 0; stretch * L::kStretch < walk.positions; ++stretch) {
        auto& b_rows = shared.b[stretch % 2];
        auto& c_rows = shared.c[stretch % 2];
        b.put(b_rows);
        c.put(c_rows);
        walk.turn(shared.ring, stretch);
        __syncthreads();
        b.fetch(shared.ring.of(stretch + 1));
        c.fetch(shared.ring.of(stretch + 1));
        const int* stretch_tokens = shared.ring.of(stretch);

        for (int chunk = 0; chunk < L::kStretch; chunk += kChunk) {
            const int first = stretch * L::kStretch + chunk;
            if (first >= walk.positions) break;
            const int* tokens = stretch_tokens + chunk;
            const int* tokens_ahead = chunk + kChunk < L::kStretch ? tokens + kChunk : shared.ring.of(stretch + 1);
            float before[kChunk][C][S];  // the states before each step, where step 0 is the chunk's last
            --chunk_number;
            if (chunk_number > first_chunk) copy_chunk_states<L>(shared, p, workspace, segment, at, chunk_number - 1);
            __pipeline_commit();
            __pipeline_wait_prior(1);
            take_chunk_states<T, L>(before[kChunk - 1], a, shared, p, workspace, segment, at, chunk_number);

            typename Elements<T, C>::Pair u_now[kOwn];
#pragma unroll
            for (int i = 0; i < kOwn; ++i) {
                const int t = i * kLanes + at.lane;
                float input[C], size[C], slope[C], product[C], gradient[C], gate[C], factor[C], bias[C];
                at.take(bias, shared.delta_bias);
                u_now[i] = u_ahead[i];
                Elements<T, C>::convert(input, u_now[i]);
                Elements<T, C>::convert(size, delta_ahead[i]);
                Elements<T, C>::convert(gate, z_ahead[i]);
                Elements<T, C>::convert(gradient, grad_out_ahead[i]);
                read(i, tokens_ahead[t]);
                const bool exists = walk.exists(first + t);
#pragma unroll
                for (int j = 0; j < C; ++j) {
                    if (!exists || j >= at.exist) gradient[j] = input[j] = 0.0f;
                    slope[j] = softplus ? softplus_slope<T>(size[j] + bias[j]) : 1.0f;
                    size[j] = step_size<T>(size[j], bias[j], softplus, exists);
                    product[j] = size[j] * input[j];
                    const float s = sigmoid<T>(gate[j]);
                    factor[j] = gradient[j] * silu_slope(gate[j], s);
                    if (gated) gradient[j] *= gate[j] * s;
                }
                shared.delta[warp].set(t, at.local, size);
                shared.delta_slope[warp].set(t, at.local, slope);
                shared.delta_u[warp].set(t, at.local, product);
                shared.grad_y[warp].set(t, at.local, gradient);
                shared.z_factor[warp].set(t, at.local, factor);
            }
            __syncwarp();

            float h[C][S];
#pragma unroll
            for (int t = kChunk - 1; t >= 0; --t) {
                float b_row[S], size[C], product[C];
                b_rows.load(b_row, chunk + t, at.state);
                shared.delta[warp].get(size, t, at.local);
                shared.delta_u[warp].get(product, t, at.local);
#pragma unroll
                for (int j = 0; j < C; ++j) {
#pragma unroll
                    for (int n = 0; n < S; ++n) {
                        const float behind = decay_of<T>(size[j] * a[j][n]) * before[t][j][n] + product[j] * b_row[n];
                        (t > 0 ? before[t > 0 ? t - 1 : 0][j][n] : h[j][n]) = behind;
                    }
                }
            }

            // In the loop h are the states after step t.
#pragma unroll
            for (int i = 0; i < kOwn; ++i) {
                float y[kLanes][C] = {}, by_b[kLanes][C] = {}, by_decay[kLanes][C] = {};
#pragma unroll
                for (int k = 0; k < kLanes; ++k) {
                    const int t = i * kLanes + k;
                    float b_row[S], c_row[S], size[C], product[C], grad_y[C];
                    b_rows.load(b_row, chunk + t, at.state);
                    c_rows.load(c_row, chunk + t, at.state);
                    shared.delta[warp].get(size, t, at.local);
                    shared.delta_u[warp].get(product, t, at.local);
                    shared.grad_y[warp].get(grad_y, t, at.local);
                    float grad_bc[2 * S] = {};  // these channels' share: B's, then C's
#pragma unroll
                    for (int j = 0; j < C; ++j) {
#pragma unroll
                        for (int n = 0; n < S; ++n) {
                            float& gradient = grad_h[j][n];
                            gradient += grad_y[j] * c_row[n];
                            grad_bc[n] += gradient * product[j];
                            grad_bc[S + n] += grad_y[j] * h[j][n];
                            y[k][j] += c_row[n] * h[j][n];
                            by_b[k][j] += gradient * b_row[n];
                            gradient *= decay_of<T>(size[j] * a[j][n]);
                            h[j][n] = before[t][j][n];
                            const float by_exponent = gradient * h[j][n];  // the gradient by delta A
                            grad_a[j][n] += by_exponent * size[j];
                            by_decay[k][j] += by_exponent * a[j][n];
                        }
                    }
                    Sums::reduce(grad_bc, warp_lane);
#pragma unroll
                    for (int kept = 0; kept < Sums::kKept; ++kept) {
                        const int sum = Sums::first(warp_lane) + kept;
                        shared.partials[chunk + t][warp][sum / S][at.state + sum % S] = grad_bc[kept];
                    }
                }
                float own_y[C], own_by_b[C], own_by_decay[C], size[C], slope[C], grad_y[C], factor[C];
                collect(own_y, y, at.lane);
                collect(own_by_b, by_b, at.lane);
                collect(own_by_decay, by_decay, at.lane);
                const int t = i * kLanes + at.lane;
                shared.delta[warp].get(size, t, at.local);
                shared.delta_slope[warp].get(slope, t, at.local);
                shared.grad_y[warp].get(grad_y, t, at.local);
                shared.z_factor[warp].get(factor, t, at.local);
                float by_u[C], by_raw[C], by_z[C], input[C], d[C];
                Elements<T, C>::convert(input, u_now[i]);
                at.take(d, shared.d);
#pragma unroll
                for (int j = 0; j < C; ++j) {
                    by_u[j] = own_by_b[j] * size[j] + grad_y[j] * d[j];
                    by_raw[j] = (own_by_decay[j] * (1.0f / kDecayScale<T>)+own_by_b[j] * input[j]) * slope[j];
                    by_z[j] = factor[j] * (own_y[j] + d[j] * input[j]);
                    grad_d[j] += grad_y[j] * input[j];
                    if (walk.exists(first + t)) grad_delta_bias[j] += by_raw[j];
                }
                if (walk.exists(first + t)) {
                    grad_u.write(tokens[t], by_u, whole, at.exist);
                    grad_delta.write(tokens[t], by_raw, whole, at.exist);
                    if (wants_grad_z) grad_z.write(tokens[t], by_z, whole, at.exist);
                }
            }
            __syncwarp();  // the next chunk's values overwrite what was just read
        }
        __syncthreads();
        store_partials(workspace, p, shared, segment, walk, stretch_tokens, stretch * L::kStretch);
    }

    if (segment.number == 0 && params.grad_initial_state) {
        store_states<L>(grad_h, params.grad_initial_state, params.grad_initial_state_batch_stride,
                        params.grad_initial_state_channel_stride, batch, at);
    }
    store_states<L>(grad_a, workspace.partial_a + segment_row * L::kStates, 0, L::kStates, 0, at);
#pragma unroll
    for (int j = 0; j < C; ++j) {
        // Each of the threads that share a channel saw other tokens.
        const float sum_d = sum_over_neighbours<kLanes>(grad_d[j]);
        const float sum_bias = sum_over_neighbours<kLanes>(grad_delta_bias[j]);
        if (at.lane == 0 && j < at.exist) {
            workspace.partial_d[segment_row + at.channel + j] = sum_d;
            workspace.partial_delta_bias[segment_row + at.channel + j] = sum_bias;
        }
    }
}

template <typename T, typename L>
__device__ void backward(const SelectiveScanBackward& params, const SelectiveScanWorkspace& workspace) {
    __shared__ BackwardShared<L> shared;
    const Segment segment(params.inputs, blockIdx.x, L::kChannels, workspace.segments, workspace.segment_tokens);
    if (is_full<T, L>(params, segment)) {
        backward<T, L, true>(params, workspace, segment, shared);
    } else {
        backward<T, L, false>(params, workspace, segment, shared);
    }
}

}  // namespace selective_scan
