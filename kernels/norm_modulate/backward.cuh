// The gradients of residual, norm and modulation.
//
// With g the gradient by the output, h = g weight (1 + scale) and n = (r - mean) rstd, all of one token, the gradient
// by r is rstd (h - mean(h) - n mean(h n)), for the RMS norm without mean(h), and what comes from later readers of r.
// Mean and rstd are those of the forward pass. A block sums g, g n and gradient by r times y over its tokens, in their
// order; `sums.cuh` makes of these the gradients of everything that has one number a channel.
#pragma once

#include "norm_modulate/statistics.cuh"

namespace norm_modulate {

/// Registers of the kernels for packs. Those of a multiprocessor are in four parts: with 80, each holds six warps, with
/// 96 five.
constexpr int kLeanRegisters = 80;  // half precision without centring
constexpr int kRegisters = 96;

/// Whether all is given and wanted that a block amid a network gives and wants, and the stream is f32. What is known
/// beforehand need not be asked for every token.
__device__ inline bool is_full(const NormModulateBackward& params) {
    const NormModulateInputs& p = params.inputs;
    return params.r && params.r_is_f32 && params.statistics && params.grad_out && params.grad_r &&
           params.grad_r_is_f32 && params.grad_x && params.grad_x_is_f32 && params.grad_y && params.partials && p.y &&
           p.gate;
}

/// For rows in packs, one a thread. kCentred: the layer norm; else the RMS norm or none.
template <typename T, bool kCentred, bool kFull>
__device__ void backward_packs(const NormModulateBackward& params, typename TokenSums<kCentred>::Buffer& buffer) {
    const NormModulateInputs& p = params.inputs;
    const Tokens at(p);
    const int channel = threadIdx.x * kWidth;
    // Threads beyond the last channel hold zeros, and only help to sum.
    const bool exists = channel < static_cast<int>(p.channel);
    const float per_channel = 1.0f / p.channel;
    const Vectors v(p, at.batch);
    PackVectors vectors;
    if (exists) vectors.load(v, channel);

    TokenSums<kCentred> sum(buffer);
    float sum_g[kWidth] = {}, sum_gn[kWidth] = {}, sum_gate[kWidth] = {};
    for (int token = at.first; token < at.end; ++token) {
        float r[kWidth] = {}, later[kWidth] = {};
        Pack<T, kWidth> g = {}, y = {};
        if (exists) {
            const StreamRow<T, const void> from_r(params.r, kFull || params.r_is_f32, params.r_batch_stride,
                                                  params.r_token_stride, at.batch, token);
            const auto* from_g = row_of<const T>(params.grad_out, params.grad_out_batch_stride,
                                                 params.grad_out_token_stride, at.batch, token);
            const StreamRow<T, const void> from_later(params.grad_r, kFull || params.grad_r_is_f32,
                                                      params.grad_r_batch_stride, params.grad_r_token_stride, at.batch,
                                                      token);
            const auto* from_y = row_of<const T>(p.y, p.y_batch_stride, p.y_token_stride, at.batch, token);
            if (kFull || from_g) g = load_pack<kWidth>(from_g + channel);
            if (kFull || from_g && from_r) from_r.load(r, channel);
            if (kFull || from_later) from_later.load(later, channel);
            if (kFull || from_y) y = load_pack<kWidth>(from_y + channel);
        }

        Statistics statistics(params, at.batch, token);
        if (kFull || params.statistics) {
            float hn = 0.0f, h = 0.0f;
#pragma unroll
            for (int i = 0; i < kWidth; ++i) {
                const float own = to_float(g.values[i]) * vectors.factor[i];
                hn += own * statistics.normed(r[i]);
                h += own;
            }
            sum(statistics, hn, h, per_channel);
        }

        // Read again for each token, from the nearest cache: registers are short.
        float gate[kWidth];
        load_or(gate, exists && (kFull || v.gate) ? v.gate + channel : nullptr, 1.0f - v.gate_offset);
        float grad_r[kWidth], grad_y[kWidth];
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
            const float gradient = to_float(g.values[i]);
            const float n = statistics.normed(r[i]);
            grad_r[i] = statistics.grad_r(gradient * vectors.factor[i], n) + later[i];
            grad_y[i] = (v.gate_offset + gate[i]) * grad_r[i];
            sum_g[i] += gradient;
            sum_gn[i] += gradient * n;
            sum_gate[i] += grad_r[i] * to_float(y.values[i]);
        }
        if (!exists) continue;
        const StreamRow<T, void> to_x(params.grad_x, kFull || params.grad_x_is_f32, params.grad_x_batch_stride,
                                      params.grad_x_token_stride, at.batch, token);
        auto* to_y = row_of<T>(params.grad_y, params.grad_y_batch_stride, params.grad_y_token_stride, at.batch, token);
        if (kFull || to_x) to_x.store(grad_r, channel);
        if (kFull || to_y) store_pack<kWidth>(to_y + channel, grad_y);
    }

    if (!kFull && !params.partials || !exists) return;
    float* partials = params.partials + static_cast<int64_t>(blockIdx.x) * 3 * p.channel + channel;
    store_pack<kWidth>(partials, sum_g);
    store_pack<kWidth>(partials + p.channel, sum_gn);
    store_pack<kWidth>(partials + 2 * p.channel, sum_gate);
}

template <typename T, bool kCentred>
__device__ void backward_packs(const NormModulateBackward& params) {
    __shared__ typename TokenSums<kCentred>::Buffer buffer;
    if (is_full(params)) {
        backward_packs<T, kCentred, true>(params, buffer);
    } else {
        backward_packs<T, kCentred, false>(params, buffer);
    }
}

/// For any row: walks over its channels twice. The sums over tokens are kept where they are handed on.
template <typename T>
__device__ void backward_any(const NormModulateBackward& params) {
    const NormModulateInputs& p = params.inputs;
    const Tokens at(p);
    const Vectors vectors(p, at.batch);
    const int channels = p.channel;
    const float per_channel = 1.0f / channels;
    float* partials = params.partials ? params.partials + static_cast<int64_t>(blockIdx.x) * 3 * channels : nullptr;
    __shared__ TokenSums<true>::Buffer buffer;
    TokenSums<true> sum(buffer);
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
        Statistics statistics(params, at.batch, token);
        if (params.statistics) {
            float hn = 0.0f, sum_h = 0.0f;
            for (int c = threadIdx.x; c < channels; c += blockDim.x) {
                const float h = to_float(g[c]) * vectors.modulation_of(c).factor;
                hn += h * statistics.normed(r[c]);
                sum_h += h;
            }
            sum(statistics, hn, p.norm == kLayer ? sum_h : 0.0f, per_channel);
        }
        for (int c = threadIdx.x; c < channels; c += blockDim.x) {
            const float gradient = g ? to_float(g[c]) : 0.0f;
            const float n = g && r ? statistics.normed(r[c]) : 0.0f;
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
