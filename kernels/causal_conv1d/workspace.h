// Device memory that a backward pass needs for itself, contiguous; allocated by the launching side, which lists the
// same fields (crates/dim-kernels/src/causal_conv1d/cuda.rs). K: chunks of 64 tokens in a sequence.
#pragma once

struct CausalConv1dWorkspace {
    float* partial_weight;  // [B, K, E, W]
    float* partial_bias;    // [B, K, E]
};
