// From a tensor's parameters to a thread's place in it.
#pragma once

#include <cstdint>

/// An element of an f32 vector, or zero if the vector is absent.
__device__ inline float element_or_zero(const float* vector, int index) { return vector ? vector[index] : 0.0f; }

/// The token of a step.
__device__ inline int token_of(const uint32_t* token_map, int step) {
    return token_map ? static_cast<int>(token_map[step]) : step;
}

/// How many pieces of `size` cover `length`.
__device__ constexpr int divide_up(int length, int size) { return (length + size - 1) / size; }
