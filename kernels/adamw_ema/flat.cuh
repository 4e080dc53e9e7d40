// Flat buffers, four neighbouring elements at a time.
#pragma once

#include <cstdint>

#include "common/dtype.cuh"

namespace adamw_ema {

/// Four elements in registers.
struct Four {
    float at[4];
};

/// Four elements in memory: one access of 16 or 8 bytes.
template <typename T>
struct alignas(4 * sizeof(T)) Packed {
    T at[4];
};

template <typename T>
__device__ bool is_aligned(const T* buffer) {
    return reinterpret_cast<uintptr_t>(buffer) % sizeof(Packed<T>) == 0;
}

/// Elements `first .. first + 4`, zeros from `length` on. `whole`: all four exist, and one access reaches them.
template <typename T>
__device__ Four load(const T* buffer, int64_t first, int64_t length, bool whole) {
    Four four = {};
    if (whole) {
        const Packed<T> packed = *reinterpret_cast<const Packed<T>*>(buffer + first);
#pragma unroll
        for (int i = 0; i < 4; ++i) four.at[i] = to_float(packed.at[i]);
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (first + i < length) four.at[i] = to_float(buffer[first + i]);
        }
    }
    return four;
}

/// Stores what `load` would have loaded.
template <typename T>
__device__ void store(const Four& four, T* buffer, int64_t first, int64_t length, bool whole) {
    if (whole) {
        Packed<T> packed;
#pragma unroll
        for (int i = 0; i < 4; ++i) packed.at[i] = from_float<T>(four.at[i]);
        *reinterpret_cast<Packed<T>*>(buffer + first) = packed;
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (first + i < length) buffer[first + i] = from_float<T>(four.at[i]);
        }
    }
}

}  // namespace adamw_ema
