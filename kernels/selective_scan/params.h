/* Parameters of the kernels of the selective scan. Letters: kernels/README.md. */
#pragma once

#include <stdint.h>

/// Inputs of the scan, which forward and backward share.
typedef struct SelectiveScanInputs {
    /// Scan input, `[B, L, E]`.
    const void* u;
    /// Step size before bias and softplus, `[B, L, E]`.
    const void* delta;
    /// The negative matrix A itself, `[E, N]`.
    const float* a;
    /// `[B, L, N]`.
    const void* b;
    /// `[B, L, N]`.
    const void* c;
    /// Skip, `[E]`, or null.
    const float* d;
    /// Gate before SiLU, `[B, L, E]`, or null.
    const void* z;
    /// Added to delta before softplus, `[E]`, or null.
    const float* delta_bias;
    /// State before the first step, `[B, E, N]`, or null for zeros.
    const float* initial_state;
    /// Token of each step, `[L]`, or null for the order in memory.
    const uint32_t* token_map;
    int64_t u_batch_stride;
    int64_t u_token_stride;
    int64_t delta_batch_stride;
    int64_t delta_token_stride;
    int64_t a_channel_stride;
    int64_t b_batch_stride;
    int64_t b_token_stride;
    int64_t c_batch_stride;
    int64_t c_token_stride;
    int64_t z_batch_stride;
    int64_t z_token_stride;
    int64_t initial_state_batch_stride;
    int64_t initial_state_channel_stride;
    /// B.
    uint32_t batch;
    /// L.
    uint32_t token;
    /// E.
    uint32_t channel;
    /// N.
    uint32_t state;
    /// 1 if delta goes through softplus after its bias, else 0.
    uint32_t delta_softplus;
} SelectiveScanInputs;

/// Arguments of the forward kernels.
typedef struct SelectiveScanForward {
    SelectiveScanInputs inputs;
    /// `[B, L, E]`.
    void* out;
    /// State after the last step, `[B, E, N]`, or null if it is not wanted.
    float* last_state;
    int64_t out_batch_stride;
    int64_t out_token_stride;
    int64_t last_state_batch_stride;
    int64_t last_state_channel_stride;
} SelectiveScanForward;

/// Arguments of the backward kernels; each gradient has the shape of its input.
typedef struct SelectiveScanBackward {
    SelectiveScanInputs inputs;
    /// Gradient of the output, `[B, L, E]`.
    const void* grad_out;
    /// Gradient of the last state, `[B, E, N]`, or null for zeros.
    const float* grad_last_state;
    void* grad_u;
    void* grad_delta;
    float* grad_a;
    void* grad_b;
    void* grad_c;
    /// Null if it is not wanted.
    float* grad_d;
    /// Null if it is not wanted.
    void* grad_z;
    /// Null if it is not wanted.
    float* grad_delta_bias;
    /// Null if it is not wanted.
    float* grad_initial_state;
    int64_t grad_out_batch_stride;
    int64_t grad_out_token_stride;
    int64_t grad_last_state_batch_stride;
    int64_t grad_last_state_channel_stride;
    int64_t grad_u_batch_stride;
    int64_t grad_u_token_stride;
    int64_t grad_delta_batch_stride;
    int64_t grad_delta_token_stride;
    int64_t grad_a_channel_stride;
    int64_t grad_b_batch_stride;
    int64_t grad_b_token_stride;
    int64_t grad_c_batch_stride;
    int64_t grad_c_token_stride;
    int64_t grad_z_batch_stride;
    int64_t grad_z_token_stride;
    int64_t grad_initial_state_batch_stride;
    int64_t grad_initial_state_channel_stride;
} SelectiveScanBackward;
