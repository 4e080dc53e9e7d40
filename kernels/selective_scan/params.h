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

/// Arguments of the backward kernels; each gradient has the shape of its input. Those that are sums over channels or
/// the batch are left to `sum_partials`.
typedef struct SelectiveScanBackward {
    SelectiveScanInputs inputs;
    /// Gradient of the output, `[B, L, E]`.
    const void* grad_out;
    /// Gradient of the last state, `[B, E, N]`, or null for zeros.
    const float* grad_last_state;
    void* grad_u;
    void* grad_delta;
    /// Null if it is not wanted.
    void* grad_z;
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
    int64_t grad_z_batch_stride;
    int64_t grad_z_token_stride;
    int64_t grad_initial_state_batch_stride;
    int64_t grad_initial_state_channel_stride;
} SelectiveScanBackward;

/// Device memory that a call needs for itself, contiguous f32. A forward pass over a split sequence uses the segments'
/// fields only, a backward pass all.
///
/// K: chunks of 8 tokens in a sequence; P: segments of a sequence, walked by different blocks; G: groups of channels,
/// one to a block.
typedef struct SelectiveScanWorkspace {
    /// The states before every chunk, `[B, K, N / 4, E, 4]`, of a segment that starts from zeros; null in a forward
    /// pass.
    float* chunk_states;
    /// The step sizes before every chunk, summed from the segment's start, `[B, K, E]`; used if P > 1.
    float* chunk_deltas;
    /// The step sizes of every segment, summed, `[B, P, E]`; used if P > 1.
    float* segment_deltas;
    /// The states behind every segment, `[B, P, E, N]`, which `join` makes those before it; used if P > 1.
    float* segment_states;
    /// The gradients before every segment, `[B, P, E, N]`, which `join` makes those behind it; null in a forward pass.
    float* segment_gradients;
    /// `[G, B, L, N]`.
    float* partial_b;
    /// `[G, B, L, N]`.
    float* partial_c;
    /// `[B, P, E, N]`.
    float* partial_a;
    /// `[B, P, E]`.
    float* partial_d;
    /// `[B, P, E]`.
    float* partial_delta_bias;
    /// P.
    uint32_t segments;
    /// Of every segment but the last, which may have fewer; a multiple of 8.
    uint32_t segment_tokens;
} SelectiveScanWorkspace;
