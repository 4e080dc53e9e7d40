// Who computes what: how the states of a channel are shared by threads, and what a block keeps for all of them.
//
// A warp follows neighbouring channels of one sequence through its tokens and waits for nobody but when the block's
// four warps turn to the next stretch of tokens, whose B, C and token numbers they put into shared memory together, one
// stretch ahead.
#pragma once

#include <type_traits>

#include "common/access.cuh"
#include "common/dtype.cuh"
#include "common/math.cuh"
#include "common/reduce.cuh"
#include "selective_scan/params.h"

namespace selective_scan {

// The launching side has the same numbers.
constexpr int kThreads = 128;  // of a block
constexpr int kMaxHeld = 16;   // states of a channel in one thread
constexpr int kChunk = 8;      // tokens between two states that the backward pass keeps

constexpr int kWarps = kThreads / kWarp;

/// Tokens between two barriers: as many as shared memory holds the rows of.
__device__ constexpr int stretch(int states) { return states <= 16 ? 32 : 512 / states; }

/// S of the N states of C neighbouring channels lie in one thread; its neighbours hold the others.
///
/// With two channels a thread, what a token's B and C cost to fetch from shared memory is halved. A block's channels
/// are those of its first kSpan threads; the others, if there are more, have the same channels and other tokens.
template <int N, int S, int C, int kSpan = kThreads>
struct Split {
    static constexpr int kStates = N;
    static constexpr int kHeld = S;
    static constexpr int kOwned = C;                          // channels of a thread
    static constexpr int kLanes = N / S;                      // threads that share them
    static constexpr int kWarpChannels = kWarp / kLanes * C;  // of a warp
    static constexpr int kChannels = kSpan / kLanes * C;      // of a block
    static constexpr int kChannelThreads = kSpan;
    static constexpr int kStretch = stretch(N);
    static_assert(S * kLanes == N && kWarp % kLanes == 0 && (C == 1 || C == 2));
};

/// A channel to a thread as far as 16 states go: the least to be done, where channels and batch fill the card.
template <int N>
using Wide = Split<N, (N < kMaxHeld ? N : kMaxHeld), 1>;

/// Four threads to a channel of 16 states: where there are too few channels for `Wide`.
template <int N>
using Narrow = Split<N, N / 4, 1>;

/// The same, of which all warps of a block take the same channels: where channels and batch do not fill the card, and a
/// sequence is too short to be split among blocks.
template <int N>
using Shared = Split<N, N / 4, 1, kWarp>;

/// Of the backward pass, which keeps the states of a chunk in registers and sums over channels: few states of two
/// channels.
template <int N>
using Paired = std::conditional_t<N <= 32, Split<N, 4, 2>, Split<N, N / 8, 1>>;

/// A part of a sequence that a block walks.
struct Segment {
    int batch;
    int group;   // of channels
    int number;  // of the segment in its sequence
    int first;   // step
    int end;     // the step behind the last

    /// The grid is batch × segments × groups of channels.
    __device__ Segment(const SelectiveScanInputs& p, int block, int channels, int segments, int segment_tokens) {
        const int groups = divide_up(p.channel, channels);
        group = block % groups;
        number = block / groups % segments;
        batch = block / groups / segments;
        first = number * segment_tokens;
        end = min(first + segment_tokens, static_cast<int>(p.token));
    }
};

/// One row after another of one sequence of a tensor [batch, row, column], from one column on.
template <typename T>
struct Rows {
    char* first;
    int stride;  // in bytes; the checks have refused what does not fit

    template <typename Pointer>
    __device__ Rows(Pointer* data, int64_t batch_stride, int64_t row_stride, int batch, int column)
        : first(reinterpret_cast<char*>(const_cast<T*>(static_cast<const T*>(data)) + batch * batch_stride + column)),
          stride(static_cast<int>(row_stride * sizeof(T))) {}

    __device__ T* operator[](int row) const { return reinterpret_cast<T*>(first + static_cast<int64_t>(row) * stride); }
};

/// A thread's place among the channels.
template <typename L>
struct Place {
    int lane;     // among the threads that share its channels
    int state;    // its first state
    int local;    // its first channel, counted from the warp's first
    int channel;  // the same in the tensor; any that exists if none of its own do
    int exist;    // how many of its channels exist

    __device__ Place(int group, int channels) {
        lane = threadIdx.x % L::kLanes;
        state = lane * L::kHeld;
        local = threadIdx.x % kWarp / L::kLanes * L::kOwned;
        const int own = group * L::kChannels + threadIdx.x % L::kChannelThreads / L::kLanes * L::kOwned;
        // Not max(0, min(...)): ptxas 13.0 reuses that instruction's predicate for `exist == 2`, with the wrong sense.
        exist = (own < channels ? 1 : 0) + (L::kOwned == 2 && own + 1 < channels ? 1 : 0);
        channel = min(own, channels - 1);
    }

    /// A channel's place in the tensor; of one that does not exist, one that does.
    __device__ int of(int j) const { return channel + (j < exist ? j : 0); }

    /// The thread's own of the numbers of a block's channels.
    __device__ void take(float (&to)[L::kOwned], const float (&of_block)[L::kChannels]) const {
        const int first = threadIdx.x % L::kChannelThreads / L::kLanes * L::kOwned;
        if constexpr (L::kOwned == 2) {
            const float2 pair = load_pair(&of_block[first]);
            to[0] = pair.x, to[1] = pair.y;
        } else {
            to[0] = of_block[first];
        }
    }
};

/// Whether two neighbouring channels of a tensor [batch, token, channel], of which the first is even, can be moved at
/// once.
template <typename T>
__device__ bool moves_pairs(const void* data, int64_t batch_stride, int64_t token_stride) {
    return reinterpret_cast<uintptr_t>(data) % (2 * sizeof(T)) == 0 && batch_stride % 2 == 0 && token_stride % 2 == 0;
}

/// A thread's one or two channels at a token. `whole`: both exist and can be moved at once.
template <typename T, int C>
struct Elements {
    using Pair = std::conditional_t<C == 2, typename PairOf<T>::Type, T>;
    Rows<T> rows;

    template <typename L, typename Pointer>
    __device__ Elements(Pointer* data, int64_t batch_stride, int64_t token_stride, int batch, const Place<L>& at)
        : rows(data, batch_stride, token_stride, batch, at.channel) {}

    __device__ Pair read(int token, bool whole, int exist) const {
        const T* at = rows[token];
        if constexpr (C == 1) {
            return *at;
        } else {
            if (whole) return *reinterpret_cast<const Pair*>(at);
            return pair_of(at[0], at[exist == 2 ? 1 : 0]);
        }
    }

    __device__ static void convert(float (&to)[C], const Pair& from) {
        if constexpr (C == 1) {
            to[0] = to_float(from);
        } else {
            const float2 pair = to_floats(from);
            to[0] = pair.x, to[1] = pair.y;
        }
    }

    __device__ void write(int token, const float (&values)[C], bool whole, int exist) const {
        T* at = rows[token];
        if constexpr (C == 1) {
            if (exist) *at = from_float<T>(values[0]);
        } else {
            if (whole) {
                store_pair(at, {values[0], values[1]});
            } else {
                if (exist > 0) at[0] = from_float<T>(values[0]);
                if (exist > 1) at[1] = from_float<T>(values[1]);
            }
        }
    }
};

/// What is the same at every token, of a thread's channels.
template <typename L>
__device__ void load_vector(float (&to)[L::kOwned], const float* vector, const Place<L>& at) {
#pragma unroll
    for (int j = 0; j < L::kOwned; ++j) to[j] = element_or_zero(vector, at.of(j));
}

/// A number for each token of a tile and channel of a warp: computed by one thread, used by all that share the channel.
template <typename L, int kTokens>
struct WarpTile {
    alignas(16) float values[kTokens][L::kWarpChannels];

    __device__ void set(int t, int local, const float (&from)[L::kOwned]) {
        if constexpr (L::kOwned == 2) {
            store_pair(&values[t][local], {from[0], from[1]});
        } else {
            values[t][local] = from[0];
        }
    }

    __device__ void get(float (&to)[L::kOwned], int t, int local) const {
        if constexpr (L::kOwned == 2) {
            const float2 pair = load_pair(&values[t][local]);
            to[0] = pair.x, to[1] = pair.y;
        } else {
            to[0] = values[t][local];
        }
    }
};

/// Sums over the `kLanes` threads that share channels, for as many tokens: each thread gets those of the token of its
/// number.
///
/// In every round two threads swap halves of what they still hold, so that a sum takes hardly more than one shuffle.
template <int kLanes, int kChannels>
__device__ void collect(float (&own)[kChannels], const float (&parts)[kLanes][kChannels], int lane) {
    if constexpr (kLanes == 1) {
#pragma unroll
        for (int j = 0; j < kChannels; ++j) own[j] = parts[0][j];
    } else {
        constexpr int kHalf = kLanes / 2;
        const bool upper = lane & kHalf;
        float halves[kHalf][kChannels];
#pragma unroll
        for (int t = 0; t < kHalf; ++t) {
#pragma unroll
            for (int j = 0; j < kChannels; ++j) {
                const float given = upper ? parts[t][j] : parts[t + kHalf][j];
                const float kept = upper ? parts[t + kHalf][j] : parts[t][j];
                halves[t][j] = kept + __shfl_xor_sync(kAllLanes, given, kHalf);
            }
        }
        collect<kHalf, kChannels>(own, halves, lane);
    }
}

/// Whether a block finds all that it could: every channel, softplus, a gate, and pairs that are moved at once. What a
/// network's block gives is of this kind; to know it beforehand saves instructions.
template <typename T, typename L>
__device__ bool is_full(const SelectiveScanInputs& p, const Segment& segment) {
    const bool pairs = L::kOwned == 1 || moves_pairs<T>(p.u, p.u_batch_stride, p.u_token_stride) &&
                                             moves_pairs<T>(p.delta, p.delta_batch_stride, p.delta_token_stride) &&
                                             moves_pairs<T>(p.z, p.z_batch_stride, p.z_token_stride);
    return (segment.group + 1) * L::kChannels <= static_cast<int>(p.channel) && p.z && p.delta_softplus && pairs &&
           moves_pairs<T>(p.b, p.b_batch_stride, p.b_token_stride) &&
           moves_pairs<T>(p.c, p.c_batch_stride, p.c_token_stride);
}

/// The rows of a matrix [B, L, N] at a stretch's or a chunk's tokens, in f32.
template <int N, int S, int kTokens = stretch(N)>
struct MatrixRows {
    alignas(16) float values[kTokens][N];

    __device__ void set(int t, int n, float2 pair) { store_pair(&values[t][n], pair); }

    /// A thread's states of a token.
    __device__ void load(float (&to)[S], int t, int state) const {
#pragma unroll
        for (int n = 0; n < S; n += 4) {
            const float4 four = *reinterpret_cast<const float4*>(&values[t][state + n]);
            to[n] = four.x, to[n + 1] = four.y, to[n + 2] = four.z, to[n + 3] = four.w;
        }
    }
};

/// The numbers of the tokens of three stretches: the one behind, the one at hand, the one ahead.
template <int kStretch>
struct TokenRing {
    int tokens[3][kStretch];

    __device__ int* of(int stretch) { return tokens[stretch % 3]; }
};

/// Fetches rows of matrices [B, L, N] one stretch before they are needed, each thread its pairs of states.
template <typename T, int N>
struct PairFetch {
    using Pair = typename PairOf<T>::Type;
    static constexpr int kPairs = stretch(N) * N / 2 / kThreads;
    static constexpr int kRowStep = kThreads / (N / 2);
    Rows<T> rows;
    bool whole;  // whether a pair is read at once
    Pair held[kPairs];

    __device__ PairFetch(const void* data, int64_t batch_stride, int64_t token_stride, int batch)
        : rows(data, batch_stride, token_stride, batch, state()),
          whole(moves_pairs<T>(data, batch_stride, token_stride)) {}

    __device__ static int row(int pair) { return threadIdx.x / (N / 2) + pair * kRowStep; }
    __device__ static int state() { return threadIdx.x % (N / 2) * 2; }

    __device__ void fetch(const int* tokens) {
#pragma unroll
        for (int i = 0; i < kPairs; ++i) {
            const T* at = rows[tokens[row(i)]];
            if (whole) {
                held[i] = *reinterpret_cast<const Pair*>(at);
            } else {
                held[i] = pair_of(at[0], at[1]);
            }
        }
    }

    template <int S>
    __device__ void put(MatrixRows<N, S>& to) const {
#pragma unroll
        for (int i = 0; i < kPairs; ++i) to.set(row(i), state(), to_floats(held[i]));
    }
};

/// The order in which a block walks its segment's tokens, and the ring that it keeps filled.
///
/// Backwards, the walk takes the chunks from last to first and each of them from its last step, of which the last chunk
/// may lack some.
template <int kStretch, bool kBackwards>
struct Walk {
    const uint32_t* token_map;
    int first;
    int steps;
    int positions;  // of the walk
    int ahead;      // the token that this thread will put into the ring next

    __device__ Walk(const SelectiveScanInputs& p, const Segment& segment)
        : token_map(p.token_map),
          first(segment.first),
          steps(segment.end - segment.first),
          positions(kBackwards ? divide_up(steps, kChunk) * kChunk : steps),
          ahead(0) {}

    /// Whether a position has a step.
    __device__ bool exists(int position) const {
        return kBackwards ? position >= positions - steps : position < positions;
    }

    /// The token of a position; of one without a step, any that exists.
    __device__ int token(int position) const {
        const int step = kBackwards ? positions - 1 - position : position;
        return token_of(token_map, first + max(0, min(step, steps - 1)));
    }

    /// Fills the ring with the first two stretches. A barrier must follow.
    __device__ void begin(TokenRing<kStretch>& ring) {
        if (threadIdx.x < 2 * kStretch)
            ring.tokens[threadIdx.x / kStretch][threadIdx.x % kStretch] = token(threadIdx.x);
        look_ahead(2);
    }

    __device__ void look_ahead(int stretch) {
        if (threadIdx.x < kStretch) ahead = token(stretch * kStretch + threadIdx.x);
    }

    /// At the turn to a stretch, before its barrier: puts the tokens of the one after it into the ring.
    __device__ void turn(TokenRing<kStretch>& ring, int stretch) {
        if (stretch == 0) return;
        if (threadIdx.x < kStretch) ring.of(stretch + 1)[threadIdx.x] = ahead;
        look_ahead(stretch + 2);
    }
};

/// The states that a thread holds of its channels, from a tensor [B, E, N], or zeros if it is absent.
template <typename L>
__device__ void load_states(float (&h)[L::kOwned][L::kHeld], const float* states, int64_t batch_stride,
                            int64_t channel_stride, int batch, const Place<L>& at) {
#pragma unroll
    for (int j = 0; j < L::kOwned; ++j) {
        const float* first = states + batch * batch_stride + at.of(j) * channel_stride + at.state;
#pragma unroll
        for (int n = 0; n < L::kHeld; ++n) h[j][n] = states ? first[n] : 0.0f;
    }
}

/// The same into a tensor.
template <typename L>
__device__ void store_states(const float (&h)[L::kOwned][L::kHeld], float* states, int64_t batch_stride,
                             int64_t channel_stride, int batch, const Place<L>& at) {
#pragma unroll
    for (int j = 0; j < L::kOwned; ++j) {
        float* first = states + batch * batch_stride + at.of(j) * channel_stride + at.state;
        if (j >= at.exist) continue;
#pragma unroll
        for (int n = 0; n < L::kHeld; ++n) first[n] = h[j][n];
    }
}

/// A thread's states into a row of chunk states, [N / 4, E, 4]: four states of neighbouring channels lie together.
template <typename L>
__device__ void store_quads(const float (&h)[L::kOwned][L::kHeld], float* row, int channels, const Place<L>& at) {
#pragma unroll
    for (int j = 0; j < L::kOwned; ++j) {
        if (j >= at.exist) continue;
#pragma unroll
        for (int n = 0; n < L::kHeld; n += 4) {
            const int64_t index = static_cast<int64_t>((at.state + n) / 4) * channels + at.channel + j;
            reinterpret_cast<float4*>(row)[index] = {h[j][n], h[j][n + 1], h[j][n + 2], h[j][n + 3]};
        }
    }
}

/// A, scaled so that exp(delta A) = decay_of(delta a).
template <typename T, typename L>
__device__ void load_a(float (&a)[L::kOwned][L::kHeld], const SelectiveScanInputs& p, const Place<L>& at) {
    load_states(a, p.a, 0, p.a_channel_stride, 0, at);
#pragma unroll
    for (int j = 0; j < L::kOwned; ++j) {
#pragma unroll
        for (int n = 0; n < L::kHeld; ++n) a[j][n] *= kDecayScale<T>;
    }
}

/// The step size, from the raw delta; zero, which leaves every state as it is, behind the last step.
template <typename T>
__device__ float step_size(float raw, float bias, bool delta_softplus, bool exists) {
    const float delta = delta_softplus ? softplus<T>(raw + bias) : raw + bias;
    return exists ? delta : 0.0f;
}

}  // namespace selective_scan
