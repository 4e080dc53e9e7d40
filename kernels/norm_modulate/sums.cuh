// The gradients of what has one number a channel, from the sums over each block's tokens.
//
// A block sums 32 neighbouring channels of one sequence. Each of its groups of threads adds every so-manieth of the
// partial sums, in order; then the first adds up the groups'.
#pragma once

#include "norm_modulate/rows.cuh"

namespace norm_modulate {

constexpr int kSumChannels = 32;  // of a block; the launching side has the same number
constexpr int kMostGroups = 32;

__device__ inline void sums(const NormModulateSums& p) {
    __shared__ float buffer[3][kMostGroups][kSumChannels];
    const int lane = threadIdx.x % kSumChannels, group = threadIdx.x / kSumChannels, groups = blockDim.x / kSumChannels;
    const int pieces = divide_up(p.channel, kSumChannels);
    const int batch = blockIdx.x / pieces, channel = blockIdx.x % pieces * kSumChannels + lane;
    const bool exists = channel < static_cast<int>(p.channel);
    const float* partials = p.partials + static_cast<int64_t>(batch) * p.blocks * 3 * p.channel + channel;

    float sum[3] = {};
    if (exists) {
#pragma unroll 4
        for (int block = group; block < static_cast<int>(p.blocks); block += groups) {
#pragma unroll
            for (int i = 0; i < 3; ++i) sum[i] += partials[(static_cast<int64_t>(block) * 3 + i) * p.channel];
        }
    }
#pragma unroll
    for (int i = 0; i < 3; ++i) buffer[i][group][lane] = sum[i];
    __syncthreads();

    if (group != 0 || !exists) return;
    for (int other = 1; other < groups; ++other) {
#pragma unroll
        for (int i = 0; i < 3; ++i) sum[i] += buffer[i][other][lane];
    }
    const float g = sum[0], gn = sum[1];
    const float factor = 1.0f + element_or_zero(row_of(p.scale, p.scale_batch_stride, batch), channel);
    if (p.grad_shift) p.grad_shift[batch * p.grad_shift_batch_stride + channel] = g;
    if (p.grad_scale) {
        const float weight = p.weight ? p.weight[channel] : 1.0f;
        p.grad_scale[batch * p.grad_scale_batch_stride + channel] = weight * gn + element_or_zero(p.bias, channel) * g;
    }
    if (p.grad_gate) p.grad_gate[batch * p.grad_gate_batch_stride + channel] = sum[2];
    if (p.grad_weight) p.grad_weight[static_cast<int64_t>(batch) * p.channel + channel] = factor * gn;
    if (p.grad_bias) p.grad_bias[static_cast<int64_t>(batch) * p.channel + channel] = factor * g;
}

}  // namespace norm_modulate
