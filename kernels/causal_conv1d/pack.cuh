// The channels of a thread: one access where memory allows it.
#pragma once

#include "common/dtype.cuh"
#include "common/reduce.cuh"

namespace causal_conv1d {

constexpr int kChannels = 4;  // of a thread; the launching side has the same number

/// A thread's values at one token.
template <typename T>
struct alignas(kChannels * sizeof(T)) Pack {
    T values[kChannels];
};

/// Two values to memory's dtype, in one instruction where there is one.
__device__ inline void round_pair(float* to, float first, float second) { to[0] = first, to[1] = second; }
__device__ inline void round_pair(__half* to, float first, float second) {
    *reinterpret_cast<__half2*>(to) = __floats2half2_rn(first, second);
}
__device__ inline void round_pair(__nv_bfloat16* to, float first, float second) {
    *reinterpret_cast<__nv_bfloat162*>(to) = __floats2bfloat162_rn(first, second);
}

template <typename T>
__device__ Pack<T> pack(const float (&values)[kChannels]) {
    Pack<T> result;
#pragma unroll
    for (int v = 0; v < kChannels; v += 2) round_pair(result.values + v, values[v], values[v + 1]);
    return result;
}

/// Copies to shared memory that need no registers on their way. A thread that waits for its own sees them; others do
/// not.
namespace copies {

template <typename T>
__device__ void start(Pack<T>* to, const void* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(to))),
                 "l"(from), "n"(sizeof(Pack<T>))
                 : "memory");
}

/// Closes a group of copies, perhaps of none.
__device__ inline void close_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until all groups but the last `kGroups` have arrived.
template <int kGroups>
__device__ void wait_for_all_but() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
}

}  // namespace copies

/// A thread's column of channels in one sequence of a tensor [batch, token, channel].
template <typename T>
class Columns {
    T* first;
    int64_t stride;
    int present;
    bool packed;

   public:
    template <typename Pointer, typename Place>
    __device__ Columns(Pointer* data, int64_t batch_stride, int64_t token_stride, const Place& at)
        : first(static_cast<T*>(data) + at.batch * batch_stride + at.channel),
          stride(token_stride),
          present(at.present),
          packed(at.packed) {}

    /// Loads several tokens; all loads are on their way before the first is waited for.
    template <typename Value, int kTokens>
    __device__ void load(const int (&tokens)[kTokens], Pack<Value> (&values)[kTokens]) const {
        if (packed) {
#pragma unroll
            for (int t = 0; t < kTokens; ++t) {
                values[t] = *reinterpret_cast<const Pack<Value>*>(first + tokens[t] * stride);
            }
        } else {
#pragma unroll
            for (int t = 0; t < kTokens; ++t) {
                const T* row = first + tokens[t] * stride;
#pragma unroll
                for (int v = 0; v < kChannels; ++v) {
                    values[t].values[v] = v < present ? row[v * kWarp] : from_float<Value>(0.0f);
                }
            }
        }
    }

    /// Starts to copy several tokens to this thread's places in shared memory, `to[t * kPlaces]`; see `copies`.
    template <int kPlaces, typename Value, int kTokens>
    __device__ void copy(const int (&tokens)[kTokens], Pack<Value>* to) const {
        if (packed) {
#pragma unroll
            for (int t = 0; t < kTokens; ++t) copies::start(to + t * kPlaces, first + tokens[t] * stride);
        } else {
            Pack<Value> values[kTokens];
            load(tokens, values);
#pragma unroll
            for (int t = 0; t < kTokens; ++t) to[t * kPlaces] = values[t];
        }
    }

    /// Stores at those of several tokens whose index is in `from .. to`.
    template <int kTokens>
    __device__ void store(const int (&tokens)[kTokens], const Pack<T> (&values)[kTokens], int from, int to) const {
        if (packed) {
#pragma unroll
            for (int t = 0; t < kTokens; ++t) {
                if (t >= from && t < to) *reinterpret_cast<Pack<T>*>(first + tokens[t] * stride) = values[t];
            }
        } else {
#pragma unroll
            for (int t = 0; t < kTokens; ++t) {
                T* row = first + tokens[t] * stride;
#pragma unroll
                for (int v = 0; v < kChannels; ++v) {
                    if (t >= from && t < to && v < present) row[v * kWarp] = values[t].values[v];
                }
            }
        }
    }
};

}  // namespace causal_conv1d
