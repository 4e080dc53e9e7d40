// One step of AdamW, the moving average of the result, and its copy in bf16, in one pass.
//
// All that counts is memory: 38 bytes move for a parameter, and some thirty operations are done. A thread asks for all
// of its inputs before it uses any, which keeps enough bytes on their way.
#pragma once

#include "adamw_ema/flat.cuh"
#include "adamw_ema/params.h"

namespace adamw_ema {

// The launching side has the same two numbers.
constexpr int kStepThreads = 256;
constexpr int kFours = 1;  // groups of four elements of a thread

/// The factor of the gradients; a norm that is no number makes it none, and so every parameter.
__device__ inline float gradient_factor(const AdamwEmaStep& p) {
    if (p.norm == nullptr) return p.gradient_scale;
    const float clip = p.max_norm / (*p.norm + 1e-6f);
    return p.gradient_scale * (clip > 1.0f ? 1.0f : clip);
}

template <typename Gradient>
__device__ void step(const AdamwEmaStep& p) {
    const Gradient* gradients = static_cast<const Gradient*>(p.gradients);
    __nv_bfloat16* copy = static_cast<__nv_bfloat16*>(p.copy);
    const bool aligned = is_aligned(p.parameters) && is_aligned(gradients) && is_aligned(p.first_moment) &&
                         is_aligned(p.second_moment) && is_aligned(p.ema) && is_aligned(copy);
    const int64_t block = static_cast<int64_t>(blockIdx.x) * (kStepThreads * kFours * 4);

    Four parameters[kFours], gradient[kFours], first[kFours], second[kFours], ema[kFours];
#pragma unroll
    for (int k = 0; k < kFours; ++k) {
        const int64_t at = block + (k * kStepThreads + static_cast<int>(threadIdx.x)) * 4;
        const bool whole = aligned && at + 4 <= p.length;
        parameters[k] = load(p.parameters, at, p.length, whole);
        gradient[k] = load(gradients, at, p.length, whole);
        first[k] = load(p.first_moment, at, p.length, whole);
        second[k] = load(p.second_moment, at, p.length, whole);
        ema[k] = load(p.ema, at, p.length, whole);
    }

    const float factor = gradient_factor(p);
    const float step_size = p.schedule ? p.schedule[0] : p.step_size;
    const float decay = p.schedule ? p.schedule[1] : p.decay;
    const float root_correction = p.schedule ? p.schedule[2] : p.root_correction;
#pragma unroll
    for (int k = 0; k < kFours; ++k) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float g = factor * gradient[k].at[i];
            float& value = parameters[k].at[i];
            float& m = first[k].at[i];
            float& v = second[k].at[i];
            float& average = ema[k].at[i];
            value -= decay * value;
            m += p.first_rate * (g - m);
            v = p.second_decay * v + p.second_rate * g * g;
            value -= step_size * m / (sqrtf(v) / root_correction + p.eps);
            average += p.ema_rate * (value - average);
        }
    }

#pragma unroll
    for (int k = 0; k < kFours; ++k) {
        const int64_t at = block + (k * kStepThreads + static_cast<int>(threadIdx.x)) * 4;
        const bool whole = aligned && at + 4 <= p.length;
        store(parameters[k], p.parameters, at, p.length, whole);
        store(first[k], p.first_moment, at, p.length, whole);
        store(second[k], p.second_moment, at, p.length, whole);
        store(ema[k], p.ema, at, p.length, whole);
        if (copy) store(parameters[k], copy, at, p.length, whole);
    }
}

}  // namespace adamw_ema
