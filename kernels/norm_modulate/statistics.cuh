// What the gradients of a norm need to know of a whole token, for the kernels for packs.
#pragma once

#include "norm_modulate/rows.cuh"

namespace norm_modulate {

/// What the sums over the channels give.
struct Statistics {
    float mean = 0.0f;
    float rstd = 1.0f;
    float mean_h = 0.0f;
    float mean_hn = 0.0f;

    /// From the sums of squares of `r - mean`, of h times that, and, for the layer norm, of h.
    __device__ void set(float squares, float products, float sum_h, float per_channel, float eps) {
        rstd = rsqrtf(squares * per_channel + eps);
        mean_hn = products * rstd * per_channel;
        mean_h = sum_h * per_channel;
    }

    __device__ float grad_r(float h, float n) const { return rstd * (h - mean_h - n * mean_hn); }
};

/// A block's sums over a token's channels, for the RMS norm and for the layer norm (kCentred). Threads that have no
/// channels bring zeros.
template <bool kCentred>
struct TokenSums;

template <>
struct TokenSums<false> {
    using Buffer = BlockSums<2>::Buffer;
    BlockSums<2> sum;

    __device__ TokenSums(Buffer& buffer, int) : sum(buffer) {}

    __device__ Statistics operator()(const float (&r)[kWidth], const float (&h)[kWidth], float per_channel, float eps) {
        float sums[2] = {};
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
            sums[0] += r[i] * r[i];
            sums[1] += h[i] * r[i];
        }
        sum(sums);
        Statistics statistics;
        statistics.set(sums[0], sums[1], 0.0f, per_channel, eps);
        return statistics;
    }
};

/// Each warp takes its sums about the mean of its own channels; the block then moves them to the mean of all, which
/// loses no digits however large that is (Chan, Golub and LeVeque 1979), and needs one barrier a token instead of two.
template <>
struct TokenSums<true> {
    static constexpr int kCount = 4;    // the mean of r, sums of squares, of products, of h
    static constexpr int kQuarter = 4;  // warps whose numbers are read at once
    static constexpr int kQuarters = kMostWarps / kQuarter;
    struct Buffer {
        float4 sums[2][kCount][kQuarters];  // of each warp; two that take turns
        float4 channels[kQuarters];
    };

    Buffer& buffer;
    int turn = 0;

    __device__ TokenSums(Buffer& memory, int channels) : buffer(memory) {
        const int warp = threadIdx.x;
        if (warp < kMostWarps) {
            const int own = max(0, min(channels - warp * kWarp * kWidth, kWarp * kWidth));
            place(buffer.channels, warp) = own;
            if (warp >= static_cast<int>(blockDim.x / kWarp)) {
#pragma unroll
                for (int i = 0; i < kCount; ++i) {
                    place(buffer.sums[0][i], warp) = place(buffer.sums[1][i], warp) = 0.0f;
                }
            }
        }
        __syncthreads();
    }

    __device__ Statistics operator()(const float (&r)[kWidth], const float (&h)[kWidth], float per_channel, float eps) {
        const int warp = threadIdx.x / kWarp;
        // A thread has all its channels or none: what it adds to a mean of others must then be zero.
        const float channels = place(buffer.channels, warp);
        const bool exists = threadIdx.x % kWarp * kWidth < channels;
        float own[kCount] = {};
#pragma unroll
        for (int i = 0; i < kWidth; ++i) own[0] += r[i];
        own[0] = sum_over_neighbours<kWarp>(own[0]);
        own[0] *= channels > 0.0f ? 1.0f / channels : 0.0f;
        const float own_mean = exists ? own[0] : 0.0f;
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
            const float centred = r[i] - own_mean;
            own[1] += centred * centred;
            own[2] += h[i] * centred;
            own[3] += h[i];
        }
#pragma unroll
        for (int i = 1; i < kCount; ++i) own[i] = sum_over_neighbours<kWarp>(own[i]);
        if (threadIdx.x % kWarp == 0) {
#pragma unroll
            for (int i = 0; i < kCount; ++i) place(buffer.sums[turn][i], warp) = own[i];
        }
        __syncthreads();

        const auto& sums = buffer.sums[turn];
        turn ^= 1;
        Statistics statistics;
        for_each_quarter([&](int q) {
            const float4 own_means = sums[0][q], own_channels = buffer.channels[q];
            statistics.mean += (own_means.x * own_channels.x + own_means.y * own_channels.y) +
                               (own_means.z * own_channels.z + own_means.w * own_channels.w);
        });
        statistics.mean *= per_channel;
        float squares = 0.0f, products = 0.0f, sum_h = 0.0f;
        const auto move = [&](float own_mean, float about, float with_h, float of_h, float own_channels) {
            const float step = own_mean - statistics.mean;
            squares += about + own_channels * step * step;
            products += with_h + step * of_h;
            sum_h += of_h;
        };
        for_each_quarter([&](int q) {
            const float4 means = sums[0][q], about = sums[1][q], with_h = sums[2][q], of_h = sums[3][q];
            const float4 own_channels = buffer.channels[q];
            move(means.x, about.x, with_h.x, of_h.x, own_channels.x);
            move(means.y, about.y, with_h.y, of_h.y, own_channels.y);
            move(means.z, about.z, with_h.z, of_h.z, own_channels.z);
            move(means.w, about.w, with_h.w, of_h.w, own_channels.w);
        });
        statistics.set(squares, products, sum_h, per_channel, eps);
        return statistics;
    }

   private:
    __device__ static float& place(float4* quarters, int warp) { return reinterpret_cast<float*>(quarters)[warp]; }

    template <typename F>
    __device__ static void for_each_quarter(F f) {
#pragma unroll 1
        for (int q = 0; q < kQuarters; ++q) {
            if (q * kQuarter * kWarp >= static_cast<int>(blockDim.x)) break;
            f(q);
        }
    }
};

}  // namespace norm_modulate
