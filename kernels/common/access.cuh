// From a tensor's parameters to a thread's place in it.
#pragma once

#include <cstdint>

/// One column of one sequence of a tensor [batch, row, column]: what is at each row.
template <typename T>
struct Column {
    T* first;
    int64_t stride;  // in elements, from row to row

    template <typename Pointer>
    __device__ Column(Pointer* data, int64_t batch_stride, int64_t row_stride, int64_t batch, int64_t column)
        : first(static_cast<T*>(data) + batch * batch_stride + column), stride(row_stride) {}

    __device__ T& operator[](int64_t row) const { return first[row * stride]; }
};

/// An element of an f32 vector, or zero if the vector is absent.
__device__ inline float element_or_zero(const float* vector, int index) { return vector ? vector[index] : 0.0f; }

/// The token of a step.
__device__ inline int token_of(const uint32_t* token_map, int step) {
    return token_map ? static_cast<int>(token_map[step]) : step;
}

/// How many pieces of `size` cover `length`.
__device__ constexpr int divide_up(int length, int size) { return (length + size - 1) / size; }
