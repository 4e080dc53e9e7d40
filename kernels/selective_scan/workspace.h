// Device memory that a backward pass needs for itself, contiguous; allocated by the launching side, which lists the
// same fields (crates/dim-kernels/src/selective_scan/cuda.rs).
//
// K: chunks of 8 tokens in a sequence; G: groups of channels, one to a block.
#pragma once

struct SelectiveScanWorkspace {
    float* chunk_states;        // [B, K, N, E]: the states before every chunk
    float* partial_b;           // [G, B, L, N]
    float* partial_c;           // [G, B, L, N]
    float* partial_a;           // [B, E, N]
    float* partial_d;           // [B, E]
    float* partial_delta_bias;  // [B, E]
};
