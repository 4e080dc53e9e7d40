// The scan of few short sequences: the warps of a block take the segments of a sequence, for the same channels.
//
// Each warp walks its segment from zeros for the states behind it and for the sum of its step sizes; then, from what
// the segments before it leave, once more for the output. The second walk reads from the caches. No warp waits for
// another but once, between the walks.
#pragma once

#include "selective_scan/layout.cuh"

namespace selective_scan {

// The launching side has the same number.
constexpr int kSegmentWarps = 8;  // of a block: segments of a sequence

/// Fetches the rows of a matrix [B, L, N] at a chunk's tokens, four lanes a row.
template <typename T, int N>
struct ChunkRows {
    using Pair = typename PairOf<T>::Type;
    static constexpr int kLanesOfRow = kWarp / kChunk;
    static constexpr int kPairs = N / 2 / kLanesOfRow;
    Rows<T> rows;
    bool whole;  // whether a pair is read at once
    Pair held[kPairs];

    __device__ ChunkRows(const void* data, int64_t batch_stride, int64_t token_stride, int batch)
        : rows(data, batch_stride, token_stride, batch, state()),
          whole(moves_pairs<T>(data, batch_stride, token_stride)) {}

    __device__ static int row() { return threadIdx.x % kWarp / kLanesOfRow; }
    __device__ static int state() { return threadIdx.x % kLanesOfRow * 2 * kPairs; }

    __device__ void fetch(int token) {
        const T* at = rows[token];
#pragma unroll
        for (int i = 0; i < kPairs; ++i) {
            held[i] = whole ? reinterpret_cast<const Pair*>(at)[i] : pair_of(at[2 * i], at[2 * i + 1]);
        }
    }

    template <int S>
    __device__ void put(MatrixRows<N, S, kChunk>& to) const {
#pragma unroll
        for (int i = 0; i < kPairs; ++i) to.set(row(), state() + 2 * i, to_floats(held[i]));
    }
};

/// What a warp keeps of the chunk at hand.
template <typename L>
struct ChunkShared {
    MatrixRows<L::kStates, L::kHeld, kChunk> b, c;
    WarpTile<L, kChunk> delta, delta_u;
};

template <typename L>
struct WarpsShared {
    ChunkShared<L> chunks[kSegmentWarps];
    // What each segment leaves: of every thread its states, and of every channel the sum of the step sizes.
    float states[kSegmentWarps][L::kHeld][kWarp];
    float sums[kSegmentWarps][L::kWarpChannels];
};

/// The walk of a warp through steps `first` to `end`. With kOutput the output is written, else `sum` is what the step
/// sizes add to.
template <typename T, typename L, bool kOutput>
__device__ void walk_by_warp(const SelectiveScanForward& params, const Place<L>& at, int batch, int first, int end,
                             const float (&a)[1][L::kHeld], float (&h)[1][L::kHeld], float& sum,
                             ChunkShared<L>& shared) {
    constexpr int kOwn = kChunk / L::kLanes;  // tokens of a chunk that a thread reads and writes
    using Values = Elements<T, 1>;
    const SelectiveScanInputs& p = params.inputs;
    const Values u(p.u, p.u_batch_stride, p.u_token_stride, batch, at);
    const Values delta(p.delta, p.delta_batch_stride, p.delta_token_stride, batch, at);
    const Values z = p.z ? Values(p.z, p.z_batch_stride, p.z_token_stride, batch, at) : u;
    const Values out(params.out, params.out_batch_stride, params.out_token_stride, batch, at);
    ChunkRows<T, L::kStates> b(p.b, p.b_batch_stride, p.b_token_stride, batch);
    ChunkRows<T, L::kStates> c(p.c, p.c_batch_stride, p.c_token_stride, batch);
    const float bias = element_or_zero(p.delta_bias, at.channel), d = element_or_zero(p.d, at.channel);

    // The lanes keep the chunk's token numbers, eight of them the same eight; of steps behind the last, any that
    // exists.
    const auto tokens_from = [&](int step) {
        return token_of(p.token_map, min(step + static_cast<int>(threadIdx.x % kChunk), end - 1));
    };
    typename Values::Pair u_ahead[kOwn], delta_ahead[kOwn], z_ahead[kOwn];
    const auto read = [&](int tokens) {
#pragma unroll
        for (int i = 0; i < kOwn; ++i) {
            const int token = __shfl_sync(kAllLanes, tokens, i * L::kLanes + at.lane);
            u_ahead[i] = u.read(token, true, at.exist);
            delta_ahead[i] = delta.read(token, true, at.exist);
            if (kOutput) z_ahead[i] = z.read(token, true, at.exist);
        }
        const int token = __shfl_sync(kAllLanes, tokens, b.row());
        b.fetch(token);
        if (kOutput) c.fetch(token);
    };

    int tokens = tokens_from(first), tokens_ahead = tokens_from(first + kChunk);
    read(tokens);
    for (int step = first; step < end; step += kChunk) {
        float skip[kOwn], gate[kOwn];
        b.put(shared.b);
        if (kOutput) c.put(shared.c);
#pragma unroll
        for (int i = 0; i < kOwn; ++i) {
            const int t = i * L::kLanes + at.lane;
            float input[1], size[1], gates[1];
            Values::convert(input, u_ahead[i]);
            Values::convert(size, delta_ahead[i]);
            size[0] = step_size<T>(size[0], bias, p.delta_softplus, step + t < end);
            skip[i] = d * input[0];
            input[0] *= size[0];
            shared.delta.set(t, at.local, size);
            shared.delta_u.set(t, at.local, input);
            if (kOutput) {
                Values::convert(gates, z_ahead[i]);
                gate[i] = gates[0];
            }
        }
        const int tokens_now = tokens;
        tokens = tokens_ahead;
        tokens_ahead = tokens_from(step + 2 * kChunk);
        read(tokens);
        __syncwarp();
#pragma unroll
        for (int i = 0; i < kOwn; ++i) {
            float parts[L::kLanes][1];
#pragma unroll
            for (int k = 0; k < L::kLanes; ++k) {
                const int t = i * L::kLanes + k;
                float b_row[L::kHeld], c_row[L::kHeld], size[1], product[1];
                shared.b.load(b_row, t, at.state);
                if (kOutput) shared.c.load(c_row, t, at.state);
                shared.delta.get(size, t, at.local);
                shared.delta_u.get(product, t, at.local);
                sum += size[0];
                parts[k][0] = 0.0f;
#pragma unroll
                for (int n = 0; n < L::kHeld; ++n) {
                    h[0][n] = decay_of<T>(size[0] * a[0][n]) * h[0][n] + product[0] * b_row[n];
                    if (kOutput) parts[k][0] += c_row[n] * h[0][n];
                }
            }
            if (!kOutput) continue;
            float y[1];
            collect(y, parts, at.lane);
            const int t = i * L::kLanes + at.lane;
            const int token = __shfl_sync(kAllLanes, tokens_now, t);
            y[0] += skip[i];
            if (p.z) y[0] *= gate[i] * sigmoid<T>(gate[i]);
            if (step + t < end) out.write(token, y, true, at.exist);
        }
        __syncwarp();  // the next chunk's values overwrite what was just read
    }
}

template <typename T, typename L>
__device__ void forward_by_warps(const SelectiveScanForward& params) {
    static_assert(L::kOwned == 1 && L::kChannelThreads == kWarp);
    __shared__ WarpsShared<L> shared;
    const SelectiveScanInputs& p = params.inputs;
    const int groups = divide_up(p.channel, L::kChannels);
    const int group = blockIdx.x % groups, batch = blockIdx.x / groups;
    const int warp = threadIdx.x / kWarp, warp_lane = threadIdx.x % kWarp, steps = p.token;
    const int segment_steps = divide_up(divide_up(steps, kChunk), kSegmentWarps) * kChunk;
    const int first = min(warp * segment_steps, steps), end = min(first + segment_steps, steps);
    const Place<L> at(group, p.channel);

    float a[1][L::kHeld], h[1][L::kHeld], sum = 0.0f;
    load_a<T, L>(a, p, at);
    load_states<L>(h, warp == 0 ? p.initial_state : nullptr, p.initial_state_batch_stride,
                   p.initial_state_channel_stride, batch, at);
    float start[1][L::kHeld];
#pragma unroll
    for (int n = 0; n < L::kHeld; ++n) start[0][n] = h[0][n];
    if (end < steps) walk_by_warp<T, L, false>(params, at, batch, first, end, a, h, sum, shared.chunks[warp]);
#pragma unroll
    for (int n = 0; n < L::kHeld; ++n) shared.states[warp][n][warp_lane] = h[0][n];
    if (at.lane == 0) shared.sums[warp][at.local] = sum;
    __syncthreads();

    // The first segment started from the true state.
    for (int before = 0; before < warp; ++before) {
        const float behind = shared.sums[before][at.local];
#pragma unroll
        for (int n = 0; n < L::kHeld; ++n) {
            const float left = shared.states[before][n][warp_lane];
            start[0][n] = before == 0 ? left : decay_of<T>(behind * a[0][n]) * start[0][n] + left;
        }
    }
    if (first < end) walk_by_warp<T, L, true>(params, at, batch, first, end, a, start, sum, shared.chunks[warp]);
    if (params.last_state && end == steps && (first < end || warp == 0)) {
        store_states<L>(start, params.last_state, params.last_state_batch_stride, params.last_state_channel_stride,
                        batch, at);
    }
}

}  // namespace selective_scan
