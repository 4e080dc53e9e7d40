// The gradients of residual, norm and modulation.
//
// With g the gradient by the output, h = g weight (1 + scale) and n = (r - mean) rstd, all of one token, the gradient
// by r is rstd (h - mean(h) - n mean(h n)), for the RMS norm without mean(h), and what comes from later readers of r.
// The statistics are taken again from r. A block sums g, g n and gradient by r times y over its tokens, in their order;
// `sums.cuh` makes of these the gradients of everything that has one number a channel.
#pragma once

#include "norm_modulate/statistics.cuh"

namespace norm_modulate {

/// Registers of the kernels for packs. Those of a multiprocessor are in four parts: with 80, each holds six warps, with
/// 96 five.
constexpr int kLeanRegisters = 80;  // half precision without centring
constexpr int kRegisters = 96;

/// For rows in packs, one a thread. kCentred: the layer norm; else the RMS norm or none.
template <typename T, bool kCentred>
__device__ void backward_packs(const NormModulateBackward& params) {
    const NormModulateInputs& p = params.inputs;
    const Tokens at(p);
    const int channel = threadIdx.x * kWidth;
    // Threads beyond the last channel hold zeros, and only help to sum.
    const bool exists = channel < static_cast<int>(p.channel);
    const float per_channel = 1.0f / p.channel;
    const Vectors v(p, at.batch);
    PackVectors vectors;
    if (exists) vectors.load(v, channel);

    __shared__ typename TokenSums<kCentred>::Buffer buffer;
    TokenSums<kCentred> sum(buffer, p.channel);
    float sum_g[kWidth] = {}, sum_gn[kWidth] = {}, sum_gate[kWidth] = {};
    for (int token = at.first; token < at.end; ++token) {
        float r[kWidth] = {}, later[kWidth] = {};
        Pack<T, kWidth> g = {}, y = {};
        if (exists) {
            const StreamRow<T, const void> from_r(params.r, params.r_is_f32, params.r_batch_stride,
                                                  params.r_token_stride, at.batch, token);
            const auto* from_g = row_of<const T>(params.grad_out, params.grad_out_batch_stride,
                                                 params.grad_out_token_stride, at.batch, token);
            const StreamRow<T, const void> from_later(params.grad_r, params.grad_r_is_f32, params.grad_r_batch_stride,
                                                      params.grad_r_token_stride, at.batch, token);
            const auto* from_y = row_of<const T>(p.y, p.y_batch_stride, p.y_token_stride, at.batch, token);
            if (from_g) g = load_pack<kWidth>(from_g + channel);
            if (from_g && from_r) from_r.load(r, channel);
            if (from_later) from_later.load(later, channel);
            if (from_y) y = load_pack<kWidth>(from_y + channel);
        }

        Statistics statistics;
        if (p.norm != kNone && params.grad_out) {
            float h[kWidth];
#pragma unroll
            for (int i = 0; i < kWidth; ++i) h[i] = to_float(g.values[i]) * vectors.factor[i];
            statistics = sum(r, h, per_channel, p.eps);
        }

        // Read again for each token, from the nearest cache: registers are short.
        float gate[kWidth];
        load_or(gate, exists && v.gate ? v.gate + channel : nullptr, 1.0f - v.gate_offset);
        float grad_r[kWidth], grad_y[kWidth];
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
            const float gradient = to_float(g.values[i]);
            const float n = (r[i] - statistics.mean) * statistics.rstd;
            grad_r[i] = statistics.grad_r(gradient * vectors.factor[i], n) + later[i];
            grad_y[i] = (v.gate_offset + gate[i]) * grad_r[i];
            sum_g[i] += gradient;
            sum_gn[i] += gradient * n;
            sum_gate[i] += grad_r[i] * to_float(y.values[i]);
        }
        if (!exists) continue;
        const StreamRow<T, void> to_x(params.grad_x, params.grad_x_is_f32, params.grad_x_batch_stride,
                                      params.grad_x_token_stride, at.batch, token);
        auto* to_y = row_of<T>(params.grad_y, params.grad_y_batch_stride, params.grad_y_token_stride, at.batch, token);
        if (to_x) to_x.store(grad_r, channel);
        if (to_y) store_pack<kWidth>(to_y + channel, grad_y);
    }

    if (!params.partials || !exists) return;
    float* partials = params.partials + static_cast<int64_t>(blockIdx.x) * 3 * p.channel + channel;
    store_pack<kWidth>(partials, sum_g);
    store_pack<kWidth>(partials + p.channel, sum_gn);
    store_pack<kWidth>(partials + 2 * p.channel, sum_gate);
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
    __shared__ BlockSums<1>::Buffer mean_buffer;
    __shared__ BlockSums<3>::Buffer buffer;
    BlockSums<1> sum_mean(mean_buffer);
    BlockSums<3> sum(buffer);
    for (int token = at.first; token < at.end; ++token) {
        const StreamRow<T, const void> r(params.r, params.r_is_f32, params.r_batch_stride, params.r_token_stride,
                                         at.batch, token);
        const auto* g = row_of<const T>(params.grad_out, params.grad_out_batch_stride, params.grad_out_token_stride,
                                        at.batch, token);
        const StreamRow<T, const void> later(params.grad_r, params.grad_r_is_f32, params.grad_r_batch_stride,
                                             params.grad_r_token_stride, at.batch, token);
        const auto* y = row_of<const T>(p.y, p.y_batch_stride, p.y_token_stride, at.batch, token);
        const StreamRow<T, void> to_x(params.grad_x, params.grad_x_is_f32, params.grad_x_batch_stride,
                                      params.grad_x_token_stride, at.batch, token);
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
            if (to_x) to_x.put(c, grad_r);
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
