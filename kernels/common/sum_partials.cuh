// The last step of every reduction: adds partial sums in a fixed order, so that the same input gives the same bits.
//
// A block sums 32 neighbouring elements. Of the partial sums of an element, each of 8 threads adds every eighth, in
// order; then the first adds up the eight.
#pragma once

#include <cstdint>

#include "common/dtype.cuh"

namespace sum_partials {

// The launching side has the same two numbers.
constexpr int kElements = 32;
constexpr int kGroups = 8;
constexpr int kThreads = kElements * kGroups;

/// What is summed: `partials` [count, batch, row, column], contiguous, into `out` [batch, row, column].
struct Params {
    const float* partials;
    void* out;
    int64_t batch_stride;  // of `out`, in elements
    int64_t row_stride;
    int64_t count;  // none: the sums are zeros
    int64_t batch;
    int64_t rows;
    int64_t columns;
};

template <typename T>
__device__ void sum(const Params& p) {
    __shared__ float sums[kGroups][kElements];
    const int lane = threadIdx.x % kElements, group = threadIdx.x / kElements;
    const int64_t elements = p.batch * p.rows * p.columns;
    const int64_t element = static_cast<int64_t>(blockIdx.x) * kElements + lane;

    float sum = 0.0f;
    if (element < elements) {
#pragma unroll 4
        for (int64_t i = group; i < p.count; i += kGroups) sum += p.partials[i * elements + element];
    }
    sums[group][lane] = sum;
    __syncthreads();

    if (group != 0 || element >= elements) return;
    for (int i = 1; i < kGroups; ++i) sum += sums[i][lane];
    const int64_t column = element % p.columns, row = element / p.columns % p.rows,
                  batch = element / p.columns / p.rows;
    static_cast<T*>(p.out)[batch * p.batch_stride + row * p.row_stride + column] = from_float<T>(sum);
}

}  // namespace sum_partials
