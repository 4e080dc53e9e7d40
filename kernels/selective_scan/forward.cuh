// The scan: reads u, delta, B, C, z once, writes the output once.
#pragma once

#include "selective_scan/layout.cuh"

namespace selective_scan {

template <typename L>
struct ForwardShared {
    MatrixRows<L::kStates, L::kHeld> b[2], c[2];
    WarpTile<L, kChunk> delta[kWarps], delta_u[kWarps];
    TokenRing<L::kStretch> ring;
};

/// The exponential unit is the scan's narrowest: of sixteen decays it computes fifteen.
template <typename T, typename L, bool kFull>
__device__ void forward(const SelectiveScanForward& params, const SelectiveScanWorkspace& workspace,
                        const Segment& segment, ForwardShared<L>& shared) {
    constexpr int C = L::kOwned;
    constexpr int kOwn = kChunk / L::kLanes;  // tokens of a chunk that a thread reads and writes
    constexpr bool kAlone = L::kLanes == 1;   // nobody else needs what a thread computes of a token
    const SelectiveScanInputs& p = params.inputs;
    Walk<L::kStretch, false> walk(p, segment);
    const int batch = segment.batch;
    Place<L> at(segment.group, p.channel);
    if (kFull) at.exist = C;
    const bool gated = kFull || p.z, softplus = kFull || p.delta_softplus;
    auto& shared_delta = shared.delta[threadIdx.x / kWarp];
    auto& shared_delta_u = shared.delta_u[threadIdx.x / kWarp];

    const Elements<T, C> u(p.u, p.u_batch_stride, p.u_token_stride, batch, at);
    const Elements<T, C> delta(p.delta, p.delta_batch_stride, p.delta_token_stride, batch, at);
    // Without a gate u stands in for it, so that all the same is read, and the product is left out.
    const Elements<T, C> z = gated ? Elements<T, C>(p.z, p.z_batch_stride, p.z_token_stride, batch, at) : u;
    const Elements<T, C> out(params.out, params.out_batch_stride, params.out_token_stride, batch, at);
    const bool whole = at.exist == 2 &&
                       (kFull || moves_pairs<T>(p.u, p.u_batch_stride, p.u_token_stride) &&
                                     moves_pairs<T>(p.delta, p.delta_batch_stride, p.delta_token_stride) &&
                                     moves_pairs<T>(p.z, p.z_batch_stride, p.z_token_stride)) &&
                       moves_pairs<T>(params.out, params.out_batch_stride, params.out_token_stride);
    PairFetch<T, L::kStates> b(p.b, p.b_batch_stride, p.b_token_stride, batch);
    PairFetch<T, L::kStates> c(p.c, p.c_batch_stride, p.c_token_stride, batch);
    if (kFull) b.whole = c.whole = true;
    float bias[C], d[C], a[C][L::kHeld], h[C][L::kHeld];
    load_vector<L>(bias, p.delta_bias, at);
    load_vector<L>(d, p.d, at);
    load_a<T, L>(a, p, at);
    if (segment.number == 0) {
        load_states<L>(h, p.initial_state, p.initial_state_batch_stride, p.initial_state_channel_stride, batch, at);
    } else {
        const int64_t states = static_cast<int64_t>(p.channel) * L::kStates;
        load_states<L>(h, workspace.segment_states + segment.number * states, workspace.segments * states, L::kStates,
                       batch, at);
    }

    walk.begin(shared.ring);
    __syncthreads();
    b.fetch(shared.ring.of(0));
    c.fetch(shared.ring.of(0));
    // What a thread reads it reads one chunk ahead, as soon as it has used what was there.
    typename Elements<T, C>::Pair u_ahead[kOwn], delta_ahead[kOwn], z_ahead[kOwn];
    const auto read = [&](int i, int token) {
        u_ahead[i] = u.read(token, whole, at.exist);
        delta_ahead[i] = delta.read(token, whole, at.exist);
        z_ahead[i] = z.read(token, whole, at.exist);
    };
#pragma unroll
    for (int i = 0; i < kOwn; ++i) read(i, shared.ring.of(0)[i * L::kLanes + at.lane]);

    for (int stretch = 0; stretch * L::kStretch < walk.positions; ++stretch) {
        auto& b_rows = shared.b[stretch % 2];
        auto& c_rows = shared.c[stretch % 2];
        b.put(b_rows);
        c.put(c_rows);
        walk.turn(shared.ring, stretch);
        __syncthreads();
        b.fetch(shared.ring.of(stretch + 1));
        c.fetch(shared.ring.of(stretch + 1));

        for (int chunk = 0; chunk < L::kStretch; chunk += kChunk) {
            const int first = stretch * L::kStretch + chunk;
            if (first >= walk.positions) break;
            const int* tokens = shared.ring.of(stretch) + chunk;
            const int* tokens_ahead = chunk + kChunk < L::kStretch ? tokens + kChunk : shared.ring.of(stretch + 1);

            float skip[kOwn][C], gate[kOwn][C], sizes[kOwn][C], products[kOwn][C];
#pragma unroll
            for (int i = 0; i < kOwn; ++i) {
                const int t = i * L::kLanes + at.lane;
                float input[C], size[C], product[C];
                Elements<T, C>::convert(input, u_ahead[i]);
                Elements<T, C>::convert(size, delta_ahead[i]);
                Elements<T, C>::convert(gate[i], z_ahead[i]);
                read(i, tokens_ahead[t]);
#pragma unroll
                for (int j = 0; j < C; ++j) {
                    size[j] = step_size<T>(size[j], bias[j], softplus, walk.exists(first + t));
                    product[j] = size[j] * input[j];
                    skip[i][j] = d[j] * input[j];
                }
                if constexpr (kAlone) {
#pragma unroll
                    for (int j = 0; j < C; ++j) sizes[i][j] = size[j], products[i][j] = product[j];
                } else {
                    shared_delta.set(t, at.local, size);
                    shared_delta_u.set(t, at.local, product);
                }
            }
            if constexpr (!kAlone) __syncwarp();
#pragma unroll
            for (int i = 0; i < kOwn; ++i) {
                float parts[L::kLanes][C];
#pragma unroll
                for (int k = 0; k < L::kLanes; ++k) {
                    const int t = i * L::kLanes + k;
                    float b_row[L::kHeld], c_row[L::kHeld], size[C], product[C];
                    b_rows.load(b_row, chunk + t, at.state);
                    c_rows.load(c_row, chunk + t, at.state);
                    if constexpr (kAlone) {
#pragma unroll
                        for (int j = 0; j < C; ++j) size[j] = sizes[i][j], product[j] = products[i][j];
                    } else {
                        shared_delta.get(size, t, at.local);
                        shared_delta_u.get(product, t, at.local);
                    }
#pragma unroll
                    for (int j = 0; j < C; ++j) {
                        parts[k][j] = 0.0f;
#pragma unroll
                        for (int n = 0; n < L::kHeld; ++n) {
                            const float exponent = size[j] * a[j][n];
                            const float decay = n % 16 == 15 ? decay_by_polynomial<T>(exponent) : decay_of<T>(exponent);
                            h[j][n] = decay * h[j][n] + product[j] * b_row[n];
                            parts[k][j] += c_row[n] * h[j][n];
                        }
                    }
                }
                float y[C];
                collect(y, parts, at.lane);
                const int t = i * L::kLanes + at.lane;
#pragma unroll
                for (int j = 0; j < C; ++j) {
                    y[j] += skip[i][j];
                    if (gated) y[j] *= gate[i][j] * sigmoid<T>(gate[i][j]);
                }
                if (walk.exists(first + t)) out.write(tokens[t], y, whole, at.exist);
            }
            if constexpr (!kAlone) __syncwarp();  // the next chunk's values overwrite what was just read
        }
    }
    if (params.last_state && segment.number + 1 == static_cast<int>(workspace.segments)) {
        store_states<L>(h, params.last_state, params.last_state_batch_stride, params.last_state_channel_stride, batch,
                        at);
    }
}

template <typename T, typename L>
__device__ void forward(const SelectiveScanForward& params, const SelectiveScanWorkspace& workspace) {
    __shared__ ForwardShared<L> shared;
    const Segment segment(params.inputs, blockIdx.x, L::kChannels, workspace.segments, workspace.segment_tokens);
    if (is_full<T, L>(params.inputs, segment)) {
        forward<T, L, true>(params, workspace, segment, shared);
    } else {
        forward<T, L, false>(params, workspace, segment, shared);
    }
}

}  // namespace selective_scan
