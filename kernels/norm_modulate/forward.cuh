// Residual, norm and modulation.
#pragma once

#include "norm_modulate/rows.cuh"

namespace norm_modulate {

/// Hands a token's on to the backward pass, if it wants them.
__device__ inline void store_statistics(const NormModulateForward& params, int batch, int token, float mean,
                                        float rstd) {
    float* to =
        row_of<float>(params.statistics, params.statistics_batch_stride, params.statistics_token_stride, batch, token);
    if (to && threadIdx.x == 0) to[0] = mean, to[1] = rstd;
}

/// For rows in packs, one a thread.
template <typename T>
__device__ void forward_packs(const NormModulateForward& params) {
    const NormModulateInputs& p = params.inputs;
    const Tokens at(p);
    const int channel = threadIdx.x * kWidth;
    // Threads beyond the last channel hold zeros, and only help to sum.
    const bool exists = channel < static_cast<int>(p.channel);
    const float per_channel = 1.0f / p.channel;
    PackVectors vectors;
    if (exists) vectors.load(Vectors(p, at.batch), channel);

    __shared__ BlockSums<1>::Buffer buffer;
    BlockSums<1> sum(buffer);
    for (int token = at.first; token < at.end; ++token) {
        const StreamRow<T, const void> x(params.x, params.x_is_f32, params.x_batch_stride, params.x_token_stride,
                                         at.batch, token);
        const auto* y = row_of<const T>(p.y, p.y_batch_stride, p.y_token_stride, at.batch, token);
        auto* to_r = row_of<float>(params.r, params.r_batch_stride, params.r_token_stride, at.batch, token);
        auto* to_out = row_of<T>(params.out, params.out_batch_stride, params.out_token_stride, at.batch, token);
        float r[kWidth] = {};
        if (exists) {
            float stream[kWidth];
            x.load(stream, channel);
            Pack<T, kWidth> branch = {};
            if (y) branch = load_pack<kWidth>(y + channel);
#pragma unroll
            for (int i = 0; i < kWidth; ++i) r[i] = stream[i] + vectors.gate[i] * to_float(branch.values[i]);
            if (to_r) store_pack<kWidth>(to_r + channel, r);
        }
        if (!to_out) continue;

        float mean[1] = {}, squares[1] = {};
        if (p.norm == kLayer) {
#pragma unroll
            for (int i = 0; i < kWidth; ++i) mean[0] += r[i];
            sum(mean);
            mean[0] *= per_channel;
        }
        if (p.norm != kNone) {
#pragma unroll
            for (int i = 0; i < kWidth; ++i) {
                const float centred = r[i] - mean[0];
                if (exists) squares[0] += centred * centred;
            }
            sum(squares);
        }
        const float rstd = p.norm == kNone ? 1.0f : rsqrtf(squares[0] * per_channel + p.eps);
        store_statistics(params, at.batch, token, mean[0], rstd);
        float out[kWidth];
#pragma unroll
        for (int i = 0; i < kWidth; ++i) out[i] = (r[i] - mean[0]) * rstd * vectors.factor[i] + vectors.summand[i];
        if (exists) store_pack<kWidth>(to_out + channel, out);
    }
}

/// For any row: walks over its channels up to three times.
template <typename T>
__device__ void forward_any(const NormModulateForward& params) {
    const NormModulateInputs& p = params.inputs;
    const Tokens at(p);
    const Vectors vectors(p, at.batch);
    const int channels = p.channel;
    __shared__ BlockSums<1>::Buffer buffer;
    BlockSums<1> sum(buffer);
    for (int token = at.first; token < at.end; ++token) {
        const StreamRow<T, const void> x(params.x, params.x_is_f32, params.x_batch_stride, params.x_token_stride,
                                         at.batch, token);
        const auto* y = row_of<const T>(p.y, p.y_batch_stride, p.y_token_stride, at.batch, token);
        const auto r = [&](int c) { return y ? x[c] + vectors.gate_of(c) * to_float(y[c]) : x[c]; };
        if (params.r) {
            float* to = row_of<float>(params.r, params.r_batch_stride, params.r_token_stride, at.batch, token);
            for (int c = threadIdx.x; c < channels; c += blockDim.x) to[c] = r(c);
        }
        if (!params.out) continue;

        float mean[1] = {}, rstd[1] = {};
        if (p.norm == kLayer) {
            for (int c = threadIdx.x; c < channels; c += blockDim.x) mean[0] += r(c);
            sum(mean);
            mean[0] /= channels;
        }
        if (p.norm != kNone) {
            for (int c = threadIdx.x; c < channels; c += blockDim.x) {
                const float centred = r(c) - mean[0];
                rstd[0] += centred * centred;
            }
            sum(rstd);
        }
        rstd[0] = p.norm == kNone ? 1.0f : rsqrtf(rstd[0] / channels + p.eps);
        store_statistics(params, at.batch, token, mean[0], rstd[0]);
        T* to = row_of<T>(params.out, params.out_batch_stride, params.out_token_stride, at.batch, token);
        for (int c = threadIdx.x; c < channels; c += blockDim.x) {
            const Modulation modulation = vectors.modulation_of(c);
            to[c] = from_float<T>((r(c) - mean[0]) * rstd[0] * modulation.factor + modulation.summand);
        }
    }
}

}  // namespace norm_modulate
