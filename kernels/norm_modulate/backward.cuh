// The gradients of residual, norm and modulation.
//
// With g the gradient by the output, h = g weight (1 + scale) and n = (r - mean) rstd, all of one token, the gradient by r is
// rstd (h - mean(h) - n mean(h n)), for the RMS norm without mean(h), and what comes from later readers of r. The
// statistics are taken again from r. A block sums g, g n and gradient by r times y over its tokens, in their order;
// `sums.cuh` makes of these the gradients of everything that has one number a channel.
#pragma once

#include "norm_modulate/rows.cuh"

namespace norm_modulate {

constexpr int kBackwardRows = 2;  // tokens whose rows are loaded together

/// What the sums over the channels give.
struct Statistics {
    float mean = 0.0f;
    float rstd = 1.0f;
    float mean_h = 0.0f;
    float mean_hn = 0.0f;

    /// From the sums of squares of `r - mean`, of h times that, and, for the layer norm, of h.
    __device__ void set(float squares, float products, float sum_h, float per_channel, float eps) {
        rstd = reciprocal_root(squares * per_channel + eps);
        mean_hn = products * rstd * per_channel;
        mean_h = sum_h * per_channel;
    }

    __device__ float grad_r(float h, float n) const { return rstd * (h - mean_h - n * mean_hn); }
};

/// For rows in packs, at most kSlots of them a thread.
template <typename T, bool kCentred, int kWidth = kPackWidth, int kSlots = 1, int kRows = kBackwardRows>
__device__ void backward_packs(const NormModulateBackward& params) {
    const NormModulateInputs& p = params.inputs;
    const Tokens at(p);
    const Channels<kWidth, kSlots> channel(p);
    const float per_channel = 1.0f / p.channel;
    PackVectors<kWidth> vectors[kSlots] = {};
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
        if (channel.exists(s)) vectors[s].load(Vectors(p, at.batch), channel[s]);
    }

    constexpr int kSums = kCentred ? 3 : 2;
    __shared__ float mean_buffer[2][kMostWarps][kRows], buffer[2][kMostWarps][kSums * kRows];
    BlockSums<kRows> sum_mean{mean_buffer};
    BlockSums<kSums * kRows> sum{buffer};
    float sum_g[kSlots][kWidth] = {}, sum_gn[kSlots][kWidth] = {}, sum_gate[kSlots][kWidth] = {};
    for (int first = at.first; first < at.end; first += kRows) {
        Pack<float, kWidth> r[kRows][kSlots] = {}, later[kRows][kSlots] = {};
        Pack<T, kWidth> g[kRows][kSlots] = {}, y[kRows][kSlots] = {};
#pragma unroll
        for (int t = 0; t < kRows; ++t) {
            const int token = min(first + t, at.end - 1);
            const auto* from_r = row_of<const float>(params.r, params.r_batch_stride, params.r_token_stride, at.batch, token);
            const auto* from_g = row_of<const T>(params.grad_out, params.grad_out_batch_stride,
                                                 params.grad_out_token_stride, at.batch, token);
            const auto* from_later = row_of<const float>(params.grad_r, params.grad_r_batch_stride,
                                                         params.grad_r_token_stride, at.batch, token);
            const auto* from_y = row_of<const T>(p.y, p.y_batch_stride, p.y_token_stride, at.batch, token);
#pragma unroll
            for (int s = 0; s < kSlots; ++s) {
                if (!channel.exists(s)) continue;
                if (from_g) g[t][s] = load_pack<kWidth>(from_g + channel[s]);
                if (from_g && from_r) r[t][s] = load_pack<kWidth>(from_r + channel[s]);
                if (from_later) later[t][s] = load_pack<kWidth>(from_later + channel[s]);
                if (from_y) y[t][s] = load_pack<kWidth>(from_y + channel[s]);
            }
        }

        Statistics statistics[kRows];
        if (kCentred && params.grad_out) {
            float mean[kRows] = {};
#pragma unroll
            for (int t = 0; t < kRows; ++t) {
#pragma unroll
                for (int s = 0; s < kSlots; ++s) {
#pragma unroll
                    for (int i = 0; i < kWidth; ++i) mean[t] += r[t][s].values[i];
                }
            }
            sum_mean(mean);
#pragma unroll
            for (int t = 0; t < kRows; ++t) statistics[t].mean = mean[t] * per_channel;
        }
        if (p.norm != kNone && params.grad_out) {
            float sums[kSums * kRows] = {};
#pragma unroll
            for (int t = 0; t < kRows; ++t) {
#pragma unroll
                for (int s = 0; s < kSlots; ++s) {
                    if (!channel.exists(s)) continue;
#pragma unroll
                    for (int i = 0; i < kWidth; ++i) {
                        const float centred = r[t][s].values[i] - statistics[t].mean;
                        const float h = to_float(g[t][s].values[i]) * vectors[s].factor[i];
                        sums[kSums * t] += centred * centred;
                        sums[kSums * t + 1] += h * centred;
                        if (kCentred) sums[kSums * t + 2] += h;
                    }
                }
            }
            sum(sums);
#pragma unroll
            for (int t = 0; t < kRows; ++t) {
                const float sum_h = kCentred ? sums[kSums * t + kSums - 1] : 0.0f;
                statistics[t].set(sums[kSums * t], sums[kSums * t + 1], sum_h, per_channel, p.eps);
            }
        }

#pragma unroll
        for (int t = 0; t < kRows; ++t) {
            const int token = first + t;
            if (token >= at.end) break;
            auto* to_x = row_of<float>(params.grad_x, params.grad_x_batch_stride, params.grad_x_token_stride, at.batch, token);
            auto* to_y = row_of<T>(params.grad_y, params.grad_y_batch_stride, params.grad_y_token_stride, at.batch, token);
#pragma unroll
            for (int s = 0; s < kSlots; ++s) {
                float grad_r[kWidth], grad_y[kWidth];
#pragma unroll
                for (int i = 0; i < kWidth; ++i) {
                    const float gradient = to_float(g[t][s].values[i]);
                    const float n = (r[t][s].values[i] - statistics[t].mean) * statistics[t].rstd;
                    grad_r[i] = statistics[t].grad_r(gradient * vectors[s].factor[i], n) + later[t][s].values[i];
                    grad_y[i] = vectors[s].gate[i] * grad_r[i];
                    sum_g[s][i] += gradient;
                    sum_gn[s][i] += gradient * n;
                    sum_gate[s][i] += grad_r[i] * to_float(y[t][s].values[i]);
                }
                if (!channel.exists(s)) continue;
                if (to_x) store_pack<kWidth>(to_x + channel[s], grad_r);
                if (to_y) store_pack<kWidth>(to_y + channel[s], grad_y);
            }
        }
    }

    if (!params.partials) return;
    float* partials = params.partials + static_cast<int64_t>(blockIdx.x) * 3 * p.channel;
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
        if (!channel.exists(s)) continue;
        store_pack<kWidth>(partials + channel[s], sum_g[s]);
        store_pack<kWidth>(partials + p.channel + channel[s], sum_gn[s]);
        store_pack<kWidth>(partials + 2 * p.channel + channel[s], sum_gate[s]);
    }
}

/// For any row: walks over its channels up to three times. The sums over tokens are kept where they are handed on.
template <typename T>
__device__ void backward_any(const NormModulateBackward& params) {
    const NormModulateInputs& p = params.inputs;
    const Tokens at(p);
    const Vectors vectors(p, at.batch);
    const int channels = p.channel;
    const float per_channel = 1.0f / channels;
    float* partials = params.partials ? params.partials + static_cast<int64_t>(blockIdx.x) * 3 * channels : nullptr;
    __shared__ float mean_buffer[2][kMostWarps][1], buffer[2][kMostWarps][3];
    BlockSums<1> sum_mean{mean_buffer};
    BlockSums<3> sum{buffer};
    for (int token = at.first; token < at.end; ++token) {
        const auto* r = row_of<const float>(params.r, params.r_batch_stride, params.r_token_stride, at.batch, token);
        const auto* g = row_of<const T>(params.grad_out, params.grad_out_batch_stride, params.grad_out_token_stride,
                                        at.batch, token);
        const auto* later = row_of<const float>(params.grad_r, params.grad_r_batch_stride, params.grad_r_token_stride,
                                                at.batch, token);
        const auto* y = row_of<const T>(p.y, p.y_batch_stride, p.y_token_stride, at.batch, token);
        auto* to_x = row_of<float>(params.grad_x, params.grad_x_batch_stride, params.grad_x_token_stride, at.batch, token);
        auto* to_y = row_of<T>(params.grad_y, params.grad_y_batch_stride, params.grad_y_token_stride, at.batch, token);
        Statistics statistics;
        if (p.norm == kLayer && g) {
            float mean[1] = {};
            for (int c = threadIdx.x; c < channels; c += blockDim.x) mean[0] += r[c];
            sum_mean(mean);
            statistics.mean = mean[0] * per_channel;
        }
        if (p.norm != kNone && g) {
            float sums[3] = {};
            for (int c = threadIdx.x; c < channels; c += blockDim.x) {
                const float centred = r[c] - statistics.mean;
                const float h = to_float(g[c]) * vectors.modulation_of(c).factor;
                sums[0] += centred * centred;
                sums[1] += h * centred;
                sums[2] += h;
            }
            sum(sums);
            statistics.set(sums[0], sums[1], p.norm == kLayer ? sums[2] : 0.0f, per_channel, p.eps);
        }
        for (int c = threadIdx.x; c < channels; c += blockDim.x) {
            const float gradient = g ? to_float(g[c]) : 0.0f;
            const float n = g && r ? (r[c] - statistics.mean) * statistics.rstd : 0.0f;
            const float h = g ? gradient * vectors.modulation_of(c).factor : 0.0f;
            const float grad_r = statistics.grad_r(h, n) + (later ? later[c] : 0.0f);
            if (to_x) to_x[c] = grad_r;
            if (to_y) to_y[c] = from_float<T>(vectors.gate_of(c) * grad_r);
            if (partials) {
                const bool more = token > at.first;
                const float gate = y ? grad_r * to_float(y[c]) : 0.0f;
                partials[c] = gradient + (more ? partials[c] : 0.0f);
                partials[channels + c] = gradient * n + (more ? partials[channels + c] : 0.0f);
                partials[2 * channels + c] = gate + (more ? partials[2 * channels + c] : 0.0f);
            }
        }
    }
}

}  // namespace norm_modulate
