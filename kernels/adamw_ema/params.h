/* Parameters of the optimiser's kernels. P: all parameters of a network, in one buffer. */
#pragma once

#include <stdint.h>

/// Arguments of the kernels that take the gradient's norm.
typedef struct GradientNorm {
    /// `[P]`.
    const void* gradients;
    /// The sum of squares of each chunk.
    double* partials;
    /// `[1]`.
    float* norm;
    /// P.
    int64_t length;
    /// The absolute value of the gradients' factor.
    double scale;
} GradientNorm;

/// Arguments of a step. Everything but the gradients and the copy is read and written, f32.
typedef struct AdamwEmaStep {
    /// `[P]`.
    float* parameters;
    /// `[P]`.
    const void* gradients;
    /// `[P]`.
    float* first_moment;
    /// `[P]`.
    float* second_moment;
    /// `[P]`.
    float* ema;
    /// The new parameters in bf16, `[P]`, or null.
    void* copy;
    /// The norm that `max_norm` is for, `[1]`; null if gradients are not clipped.
    const float* norm;
    /// `step_size`, `decay` and `root_correction` to take instead of those below, `[3]`, or null.
    const float* schedule;
    /// P.
    int64_t length;
    /// Learning rate over the first moment's bias correction.
    float step_size;
    /// Learning rate times weight decay.
    float decay;
    /// Root of the second moment's bias correction.
    float root_correction;
    /// One minus the first moment's decay.
    float first_rate;
    /// The second moment's decay.
    float second_decay;
    /// One minus the second moment's decay.
    float second_rate;
    float eps;
    /// One minus the average's decay.
    float ema_rate;
    /// Factor of the gradients, applied before they are clipped.
    float gradient_scale;
    /// Largest norm.
    float max_norm;
} AdamwEmaStep;
