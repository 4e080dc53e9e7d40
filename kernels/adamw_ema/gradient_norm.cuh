// The Euclidean norm of a flat buffer, in two steps: the sum of squares of each chunk, then the sum of these.
//
// A square of an f32 is exact in f64, so nothing overflows on the way, and the only roundings are the sums' in f64.
// Chunks and the order within them depend on the length alone: the same numbers give the same bits on every GPU.
#pragma once

#include "adamw_ema/flat.cuh"
#include "adamw_ema/params.h"
#include "common/reduce.cuh"

namespace adamw_ema {

// The launching side has the same numbers.
constexpr int kNormThreads = 256;
constexpr int kNormFours = 16;                             // groups of four elements of a thread
constexpr int kNormChunk = kNormThreads * kNormFours * 4;  // elements of a block
constexpr int kTotalThreads = 1024;

constexpr int kLoads = 8;  // groups of four that are loaded together

/// The sum over a block, for its first thread.
template <int kThreads>
__device__ double sum_over_block(double value) {
    __shared__ double sums[kThreads / kWarp];
#pragma unroll
    for (int offset = 1; offset < kWarp; offset *= 2) value += __shfl_xor_sync(kAllLanes, value, offset);
    if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = value;
    __syncthreads();
    double sum = 0.0;
    if (threadIdx.x == 0) {
        for (int warp = 0; warp < kThreads / kWarp; ++warp) sum += sums[warp];
    }
    return sum;
}

template <typename Gradient>
__device__ void sum_squares(const GradientNorm& p) {
    const Gradient* gradients = static_cast<const Gradient*>(p.gradients);
    const bool aligned = is_aligned(gradients);
    const int64_t chunk = static_cast<int64_t>(blockIdx.x) * kNormChunk;
    double sums[4] = {};
#pragma unroll
    for (int from = 0; from < kNormFours; from += kLoads) {
        Four fours[kLoads];
#pragma unroll
        for (int k = 0; k < kLoads; ++k) {
            const int64_t at = chunk + ((from + k) * kNormThreads + static_cast<int>(threadIdx.x)) * 4;
            fours[k] = load(gradients, at, p.length, aligned && at + 4 <= p.length);
        }
#pragma unroll
        for (int k = 0; k < kLoads; ++k) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const double value = fours[k].at[i];
                sums[i] += value * value;
            }
        }
    }
    const double sum = sum_over_block<kNormThreads>((sums[0] + sums[1]) + (sums[2] + sums[3]));
    if (threadIdx.x == 0) p.partials[blockIdx.x] = sum;
}

/// For a single block.
__device__ inline void norm_of_sums(const GradientNorm& p) {
    const int64_t chunks = (p.length + kNormChunk - 1) / kNormChunk;
    double sum = 0.0;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < chunks; i += kTotalThreads) sum += p.partials[i];
    sum = sum_over_block<kTotalThreads>(sum);
    if (threadIdx.x == 0) *p.norm = static_cast<float>(p.scale * sqrt(sum));
}

}  // namespace adamw_ema
