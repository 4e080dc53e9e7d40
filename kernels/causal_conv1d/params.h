/* Parameters of the kernels of the causal convolution. Letters: kernels/README.md. */
#pragma once

#include <stdint.h>

/// Inputs of the convolution, which forward and backward share.
typedef struct CausalConv1dInputs {
    /// `[B, L, E]`.
    const void* x;
    /// `[E, W]`; the last tap meets the current token.
    const float* weight;
    /// `[E]`, or null.
    const float* bias;
    /// Token of each step, `[L]`, or null for the order in memory.
    const uint32_t* token_map;
    int64_t x_batch_stride;
    int64_t x_token_stride;
    int64_t weight_channel_stride;
    /// B.
    uint32_t batch;
    /// L.
    uint32_t token;
    /// E.
    uint32_t channel;
    /// W.
    uint32_t width;
    /// 1 if the result goes through SiLU, else 0.
    uint32_t silu;
} CausalConv1dInputs;

/// Arguments of the forward kernels.
typedef struct CausalConv1dForward {
    CausalConv1dInputs inputs;
    /// `[B, L, E]`.
    void* out;
    int64_t out_batch_stride;
    int64_t out_token_stride;
} CausalConv1dForward;

/// Arguments of the backward kernels; each gradient has the shape of its input.
typedef struct CausalConv1dBackward {
    CausalConv1dInputs inputs;
    /// Gradient of the output, `[B, L, E]`.
    const void* grad_out;
    void* grad_x;
    float* grad_weight;
    /// Null if it is not wanted.
    float* grad_bias;
    int64_t grad_out_batch_stride;
    int64_t grad_out_token_stride;
    int64_t grad_x_batch_stride;
    int64_t grad_x_token_stride;
    int64_t grad_weight_channel_stride;
} CausalConv1dBackward;
