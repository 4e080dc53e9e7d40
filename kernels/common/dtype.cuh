// The dtypes of activations, to and from the f32 of all arithmetic.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__half value) { return __half2float(value); }
__device__ inline float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

template <typename T>
__device__ T from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
    return value;
}
template <>
__device__ inline __half from_float<__half>(float value) {
    return __float2half_rn(value);
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
    return __float2bfloat16_rn(value);
}

/// Two neighbouring elements, which one access moves.
template <typename T>
struct PairOf;
template <>
struct PairOf<float> {
    using Type = float2;
};
template <>
struct PairOf<__half> {
    using Type = __half2;
};
template <>
struct PairOf<__nv_bfloat16> {
    using Type = __nv_bfloat162;
};

__device__ inline float2 to_floats(float2 pair) { return pair; }
__device__ inline float2 to_floats(__half2 pair) { return __half22float2(pair); }
__device__ inline float2 to_floats(__nv_bfloat162 pair) { return __bfloat1622float2(pair); }

/// Made through CUDA's own functions: its pairs are copied as words, which a compiler need not see as their halves.
__device__ inline float2 pair_of(float first, float second) { return {first, second}; }
__device__ inline __half2 pair_of(__half first, __half second) { return __halves2half2(first, second); }
__device__ inline __nv_bfloat162 pair_of(__nv_bfloat16 first, __nv_bfloat16 second) {
    return __halves2bfloat162(first, second);
}

/// Two neighbouring elements, the first at an even place.
template <typename T>
__device__ float2 load_pair(const T* first) {
    return to_floats(*reinterpret_cast<const typename PairOf<T>::Type*>(first));
}

__device__ inline void store_pair(float* first, float2 pair) { *reinterpret_cast<float2*>(first) = pair; }
__device__ inline void store_pair(__half* first, float2 pair) {
    *reinterpret_cast<__half2*>(first) = __float22half2_rn(pair);
}
__device__ inline void store_pair(__nv_bfloat16* first, float2 pair) {
    *reinterpret_cast<__nv_bfloat162*>(first) = __float22bfloat162_rn(pair);
}
