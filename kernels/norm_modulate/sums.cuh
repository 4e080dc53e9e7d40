// The gradients of what has one number a channel, from the sums over each block's tokens.
//
// A block's threads are groups of neighbouring channels of one sequence: many groups where there are many partial sums,
// else one that is wide. Each group adds every so-manieth of the partial sums, in order; then the groups' sums are
// added in pairs.
#pragma once

#include "norm_modulate/rows.cuh"

namespace norm_modulate {

constexpr int kSumThreads = 256;  // the launching side has the same number

__device__ inline void sums(const NormModulateSums& p) {
    __shared__ float buffer[3][kSumThreads];
    const int thread = threadIdx.x, width = kSumThreads / p.groups;
    const int group = thread / width, pieces = divide_up(p.channel, width);
    const int batch = blockIdx.x / pieces, channel = blockIdx.x % pieces * width + thread % width;
    const bool exists = channel < static_cast<int>(p.channel);
    const float* partials = p.partials + static_cast<int64_t>(batch) * p.blocks * 3 * p.channel + channel;

    float sum[3] = {};
    if (exists) {
#pragma unroll 4
        for (int block = group; block < static_cast<int>(p.blocks); block += p.groups) {
#pragma unroll
            for (int i = 0; i < 3; ++i) sum[i] += partials[(static_cast<int64_t>(block) * 3 + i) * p.channel];
        }
    }
#pragma unroll
    for (int i = 0; i < 3; ++i) buffer[i][thread] = sum[i];
    for (int half = kSumThreads / 2; half >= width; half /= 2) {
        __syncthreads();
        if (thread >= half) continue;
#pragma unroll
        for (int i = 0; i < 3; ++i) {
            sum[i] += buffer[i][thread + half];
            buffer[i][thread] = sum[i];
        }
    }

    if (group != 0 || !exists) return;
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
