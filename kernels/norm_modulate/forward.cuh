// Residual, norm and modulation.
#pragma once

#include "norm_modulate/rows.cuh"

namespace norm_modulate {

constexpr int kForwardRows = 2;  // tokens whose rows are loaded together

/// For rows in packs, at most kSlots of them a thread.
template <typename T, int kWidth = kPackWidth, int kSlots = 1, int kRows = kForwardRows>
__device__ void forward_packs(const NormModulateForward& params) {
    const NormModulateInputs& p = params.inputs;
    const Tokens at(p);
    const Channels<kWidth, kSlots> channel(p);
    const float per_channel = 1.0f / p.channel;
    PackVectors<kWidth> vectors[kSlots] = {};
#pragma unroll
    for (int s = 0; s < kSlots; ++s) {
        if (channel.exists(s)) vectors[s].load(Vectors(p, at.batch), channel[s]);
    }

    __shared__ float buffer[2][kMostWarps][kRows];
    BlockSums<kRows> sum{buffer};
    for (int first = at.first; first < at.end; first += kRows) {
        float r[kRows][kSlots][kWidth];
#pragma unroll
        for (int t = 0; t < kRows; ++t) {
            const int token = min(first + t, at.end - 1);
            const auto* x = row_of<const float>(params.x, params.x_batch_stride, params.x_token_stride, at.batch, token);
            const auto* y = row_of<const T>(p.y, p.y_batch_stride, p.y_token_stride, at.batch, token);
#pragma unroll
            for (int s = 0; s < kSlots; ++s) {
                Pack<float, kWidth> stream = {};
                Pack<T, kWidth> branch = {};
                if (channel.exists(s)) {
                    stream = load_pack<kWidth>(x + channel[s]);
                    if (y) branch = load_pack<kWidth>(y + channel[s]);
                }
#pragma unroll
                for (int i = 0; i < kWidth; ++i) {
                    r[t][s][i] = stream.values[i] + vectors[s].gate[i] * to_float(branch.values[i]);
                }
            }
        }

        if (params.r) {
#pragma unroll
            for (int t = 0; t < kRows; ++t) {
                if (first + t >= at.end) break;
                float* to = row_of<float>(params.r, params.r_batch_stride, params.r_token_stride, at.batch, first + t);
#pragma unroll
                for (int s = 0; s < kSlots; ++s) {
                    if (channel.exists(s)) store_pack<kWidth>(to + channel[s], r[t][s]);
                }
            }
        }
        if (!params.out) continue;

        float mean[kRows] = {}, rstd[kRows];
        if (p.norm == kLayer) {
#pragma unroll
            for (int t = 0; t < kRows; ++t) {
#pragma unroll
                for (int s = 0; s < kSlots; ++s) {
#pragma unroll
                    for (int i = 0; i < kWidth; ++i) mean[t] += r[t][s][i];
                }
            }
            sum(mean);
#pragma unroll
            for (int t = 0; t < kRows; ++t) mean[t] *= per_channel;
        }
        if (p.norm != kNone) {
#pragma unroll
            for (int t = 0; t < kRows; ++t) {
                rstd[t] = 0.0f;
#pragma unroll
                for (int s = 0; s < kSlots; ++s) {
#pragma unroll
                    for (int i = 0; i < kWidth; ++i) {
                        const float centred = r[t][s][i] - mean[t];
                        if (channel.exists(s)) rstd[t] += centred * centred;
                    }
                }
            }
            sum(rstd);
        }
#pragma unroll
        for (int t = 0; t < kRows; ++t) {
            rstd[t] = p.norm == kNone ? 1.0f : reciprocal_root(rstd[t] * per_channel + p.eps);
            if (first + t >= at.end) break;
            T* to = row_of<T>(params.out, params.out_batch_stride, params.out_token_stride, at.batch, first + t);
#pragma unroll
            for (int s = 0; s < kSlots; ++s) {
                float out[kWidth];
#pragma unroll
                for (int i = 0; i < kWidth; ++i) {
                    out[i] = (r[t][s][i] - mean[t]) * rstd[t] * vectors[s].factor[i] + vectors[s].summand[i];
                }
                if (channel.exists(s)) store_pack<kWidth>(to + channel[s], out);
            }
        }
    }
}

/// For any row: walks over its channels up to three times.
template <typename T>
__device__ void forward_any(const NormModulateForward& params) {
    const NormModulateInputs& p = params.inputs;
    const Tokens at(p);
    const Vectors vectors(p, at.batch);
    const int channels = p.channel;
    __shared__ float buffer[2][kMostWarps][1];
    BlockSums<1> sum{buffer};
    for (int token = at.first; token < at.end; ++token) {
        const auto* x = row_of<const float>(params.x, params.x_batch_stride, params.x_token_stride, at.batch, token);
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
        rstd[0] = p.norm == kNone ? 1.0f : reciprocal_root(rstd[0] / channels + p.eps);
        T* to = row_of<T>(params.out, params.out_batch_stride, params.out_token_stride, at.batch, token);
        for (int c = threadIdx.x; c < channels; c += blockDim.x) {
            const Modulation modulation = vectors.modulation_of(c);
            to[c] = from_float<T>((r(c) - mean[0]) * rstd[0] * modulation.factor + modulation.summand);
        }
    }
}

}  // namespace norm_modulate
