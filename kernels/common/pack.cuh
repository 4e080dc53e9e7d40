// Several neighbouring elements, read or written at once.
#pragma once

#include "common/dtype.cuh"

/// kWidth neighbours of a row, in accesses of up to 16 bytes.
template <typename T, int kWidth>
struct alignas(sizeof(T) * kWidth < 16 ? sizeof(T) * kWidth : 16) Pack {
    T values[kWidth];
};

template <int kWidth, typename T>
__device__ Pack<T, kWidth> load_pack(const T* from) {
    return *reinterpret_cast<const Pack<T, kWidth>*>(from);
}

template <int kWidth, typename T>
__device__ void store_pack(T* to, const float (&values)[kWidth]) {
    Pack<T, kWidth> pack;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) pack.values[i] = from_float<T>(values[i]);
    *reinterpret_cast<Pack<T, kWidth>*>(to) = pack;
}

/// The same of an f32 vector, or the same number in each if the vector is absent.
template <int kWidth>
__device__ void load_or(float (&values)[kWidth], const float* from, float otherwise) {
    if (from) {
        const Pack<float, kWidth> pack = load_pack<kWidth>(from);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) values[i] = pack.values[i];
    } else {
#pragma unroll
        for (int i = 0; i < kWidth; ++i) values[i] = otherwise;
    }
}
