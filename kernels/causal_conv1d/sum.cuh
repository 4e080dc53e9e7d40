// The last step of the sums over tokens and batch: those of the blocks, added in a fixed order.
//
// A block sums 32 neighbouring elements of [W + 1, E]. Of the partial sums of an element, each of 8 threads adds every
// eighth, in order; then the first adds up the eight.
#pragma once

#include "causal_conv1d/params.h"
#include "causal_conv1d/work.h"
#include "common/reduce.cuh"

namespace causal_conv1d {

// The launching side has the same number.
constexpr int kSumGroups = 8;  // warps of a block

__device__ inline void sum(const CausalConv1dBackward& params, const CausalConv1dWork& work) {
    __shared__ float sums[kSumGroups][kWarp];
    const CausalConv1dInputs& p = params.inputs;
    const int lane = threadIdx.x % kWarp, group = threadIdx.x / kWarp;
    const int64_t channels = p.channel, elements = (p.width + 1) * channels;
    const int64_t element = static_cast<int64_t>(blockIdx.x) * kWarp + lane;
    const int64_t count = static_cast<int64_t>(p.batch) * work.blocks;

    float sum = 0.0f;
    if (element < elements) {
#pragma unroll 8
        for (int64_t i = group; i < count; i += kSumGroups) sum += work.partials[i * elements + element];
    }
    sums[group][lane] = sum;
    __syncthreads();

    if (group != 0 || element >= elements) return;
#pragma unroll
    for (int i = 1; i < kSumGroups; ++i) sum += sums[i][lane];
    const int64_t row = element / channels, channel = element % channels;
    if (row < p.width) {
        params.grad_weight[channel * params.grad_weight_channel_stride + row] = sum;
    } else if (params.grad_bias) {
        params.grad_bias[channel] = sum;
    }
}

}  // namespace causal_conv1d
