// What the gradients of a norm need to know of a whole token.
#pragma once

#include "norm_modulate/rows.cuh"

namespace norm_modulate {

/// The mean and the inverse deviation are as forward left them; with h and n as in `backward.cuh`, the means of h and
/// of h n over the channels are still to be set.
struct Statistics {
    float mean = 0.0f;
    float rstd = 1.0f;
    float mean_h = 0.0f;
    float mean_hn = 0.0f;

    __device__ Statistics(const NormModulateBackward& params, int64_t batch, int64_t token) {
        const float* from = row_of<const float>(params.statistics, params.statistics_batch_stride,
                                                params.statistics_token_stride, batch, token);
        if (from) mean = from[0], rstd = from[1];
    }

    __device__ float normed(float r) const { return (r - mean) * rstd; }

    __device__ float grad_r(float h, float n) const { return rstd * (h - mean_h - n * mean_hn); }
};

/// A block's sums over a token's channels: of h n and, for the layer norm (kCentred), of h.
template <bool kCentred>
struct TokenSums {
    static constexpr int kCount = kCentred ? 2 : 1;
    using Buffer = typename BlockSums<kCount>::Buffer;
    BlockSums<kCount> sum;

    __device__ explicit TokenSums(Buffer& buffer) : sum(buffer) {}

    __device__ void operator()(Statistics& statistics, float hn, float h, float per_channel) {
        float sums[kCount];
        sums[0] = hn;
        if constexpr (kCentred) sums[1] = h;
        sum(sums);
        statistics.mean_hn = sums[0] * per_channel;
        if constexpr (kCentred) statistics.mean_h = sums[1] * per_channel;
    }
};

}  // namespace norm_modulate
