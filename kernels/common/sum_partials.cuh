// The last step of every reduction: adds partial sums in a fixed order, so that the same input gives the same bits.
//
// A block sums 32 neighbouring elements. Of the partial sums of an element, each of 8 threads adds every eighth, in
// order; then the first adds up the eight. One launch does all the sums of an operation.
#pragma once

#include <cstdint>

#include "common/access.cuh"
#include "common/dtype.cuh"

namespace sum_partials {

// The launching side has the same three numbers.
constexpr int kElements = 32;
constexpr int kGroups = 8;
constexpr int kMaxSums = 8;
constexpr int kThreads = kElements * kGroups;

/// What is summed: `partials` [count, batch, row, column], contiguous, into `out` [batch, row, column].
struct Sum {
    const float* partials;
    void* out;
    int64_t batch_stride;  // of `out`, in elements
    int64_t row_stride;
    int64_t count;  // none: the sums are zeros
    int64_t batch;
    int64_t rows;
    int64_t columns;
    int64_t blocks;  // of the grid, one after the other's
    int64_t is_f32;  // 1 if `out` is f32 whatever the kernel's dtype
};

struct Params {
    Sum sums[kMaxSums];
};

template <typename T>
__device__ void sum(const Params& p) {
    __shared__ float shared[kGroups][kElements];
    int64_t block = blockIdx.x;
    int which = 0;
    while (block >= p.sums[which].blocks) block -= p.sums[which++].blocks;
    const Sum& s = p.sums[which];

    const int lane = threadIdx.x % kElements, group = threadIdx.x / kElements;
    const int64_t elements = s.batch * s.rows * s.columns;
    const int64_t element = block * kElements + lane;
    float sum = 0.0f;
    if (element < elements) {
#pragma unroll 4
        for (int64_t i = group; i < s.count; i += kGroups) sum += s.partials[i * elements + element];
    }
    shared[group][lane] = sum;
    __syncthreads();

    if (group != 0 || element >= elements) return;
    for (int i = 1; i < kGroups; ++i) sum += shared[i][lane];
    const int64_t column = element % s.columns, row = element / s.columns % s.rows,
                  batch = element / s.columns / s.rows;
    const int64_t at = batch * s.batch_stride + row * s.row_stride + column;
    if (s.is_f32) {
        static_cast<float*>(s.out)[at] = sum;
    } else {
        static_cast<T*>(s.out)[at] = from_float<T>(sum);
    }
}

}  // namespace sum_partials
