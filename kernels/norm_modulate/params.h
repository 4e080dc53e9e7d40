/* Parameters of the kernels of the fused residual, norm and modulation. Letters: kernels/README.md. */
#pragma once

#include <stdint.h>

/// What forward and backward share.
typedef struct NormModulateInputs {
    /// What is added to the stream, `[B, L, D]`, or null.
    const void* y;
    /// `[B, D]`, or null for a gate of 1.
    const float* gate;
    /// `[B, D]`, or null.
    const float* scale;
    /// `[B, D]`, or null.
    const float* shift;
    /// `[D]`, or null.
    const float* weight;
    /// `[D]`, or null.
    const float* bias;
    int64_t y_batch_stride;
    int64_t y_token_stride;
    int64_t gate_batch_stride;
    int64_t scale_batch_stride;
    int64_t shift_batch_stride;
    /// Added to `gate`.
    float gate_offset;
    /// Added to the mean square or the variance.
    float eps;
    /// 0: no norm, 1: RMS norm, 2: layer norm.
    uint32_t norm;
    /// B.
    uint32_t batch;
    /// L.
    uint32_t token;
    /// D.
    uint32_t channel;
    /// Tokens of one sequence that a block takes.
    uint32_t block_tokens;
} NormModulateInputs;

/// Arguments of the forward kernels.
typedef struct NormModulateForward {
    NormModulateInputs inputs;
    /// The stream, `[B, L, D]`, f32 or of the activations' dtype.
    const void* x;
    /// The stream with `y` added, `[B, L, D]`, or null.
    float* r;
    /// `[B, L, D]`, or null.
    void* out;
    /// Of each token of the stream with `y` added, the mean that the norm takes off and the inverse of what it divides
    /// by, `[B, L, 2]`, or null.
    float* statistics;
    int64_t x_batch_stride;
    int64_t x_token_stride;
    int64_t r_batch_stride;
    int64_t r_token_stride;
    int64_t out_batch_stride;
    int64_t out_token_stride;
    int64_t statistics_batch_stride;
    int64_t statistics_token_stride;
    /// 1 if `x` is f32.
    uint32_t x_is_f32;
} NormModulateForward;

/// Arguments of the backward kernels; each gradient has the shape of its input.
typedef struct NormModulateBackward {
    NormModulateInputs inputs;
    /// The stream with `y` added, `[B, L, D]`, or null where no norm and no gradient of weight or scale needs it. It,
    /// its gradient and that of `x` are f32 or of the activations' dtype.
    const void* r;
    /// As forward wrote them; null where there is no norm or no `grad_out`.
    const float* statistics;
    /// Gradient of the output, `[B, L, D]`, or null for zeros.
    const void* grad_out;
    /// Gradient of the stream from those who read it later, `[B, L, D]`, or null for zeros.
    const void* grad_r;
    /// Null if it is not wanted.
    void* grad_x;
    /// Null if there is no `y`.
    void* grad_y;
    /// Sums over the tokens of each block, `[B, blocks of a sequence, 3, D]`: of the gradient of the output, of that
    /// times the normed stream, and of the gradient of the stream times `y`; null if none is wanted.
    float* partials;
    int64_t r_batch_stride;
    int64_t r_token_stride;
    int64_t statistics_batch_stride;
    int64_t statistics_token_stride;
    int64_t grad_out_batch_stride;
    int64_t grad_out_token_stride;
    int64_t grad_r_batch_stride;
    int64_t grad_r_token_stride;
    int64_t grad_x_batch_stride;
    int64_t grad_x_token_stride;
    int64_t grad_y_batch_stride;
    int64_t grad_y_token_stride;
    /// 1 if `r` is f32.
    uint32_t r_is_f32;
    /// 1 if `grad_r` is f32.
    uint32_t grad_r_is_f32;
    /// 1 if `grad_x` is f32.
    uint32_t grad_x_is_f32;
} NormModulateBackward;

/// Arguments of the kernel that sums the partial sums; null pointers: not given, or not wanted.
typedef struct NormModulateSums {
    /// As in `NormModulateBackward`.
    const float* partials;
    /// `[B, D]`.
    const float* scale;
    /// `[D]`.
    const float* weight;
    /// `[D]`.
    const float* bias;
    /// `[B, D]`.
    float* grad_gate;
    /// `[B, D]`.
    float* grad_scale;
    /// `[B, D]`.
    float* grad_shift;
    /// Contributions of each sequence, `[B, D]` and contiguous.
    float* grad_weight;
    /// Contributions of each sequence, `[B, D]` and contiguous.
    float* grad_bias;
    int64_t scale_batch_stride;
    int64_t grad_gate_batch_stride;
    int64_t grad_scale_batch_stride;
    int64_t grad_shift_batch_stride;
    /// B.
    uint32_t batch;
    /// D.
    uint32_t channel;
    /// Blocks of a sequence.
    uint32_t blocks;
    /// Groups of the threads of a block, a power of two.
    uint32_t groups;
} NormModulateSums;
