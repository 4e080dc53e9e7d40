// How a pass is shared out, which the launching side chooses and lists in the same fields
// (crates/dim-kernels/src/causal_conv1d/cuda.rs), and the memory that a backward pass allocates for itself.
#pragma once

#include <cstdint>

struct CausalConv1dWork {
    float* partials;  // of the sums over tokens and batch, [B, K, W + 1, E], contiguous; row W is the bias's.
    uint32_t blocks;  // K, of a sequence
    uint32_t chunk;   // steps of a warp
    // Whether a thread's channels are neighbours, read and written as one piece: every row of every activation must
    // then be aligned to one, and E a multiple of them. Otherwise they lie a warp apart, and each is an access of its
    // own.
    uint32_t packed;
};
