// What the kernels of both passes share: which tokens a block takes, and sums over a token's channels.
//
//     r = x + (gate_offset + gate) y        out = (norm(r) weight + bias) (1 + scale) + shift
//
// A block walks neighbouring tokens of one sequence. The kernels for rows in packs give each thread the same eight
// channels of every token: what belongs to a channel (gate, modulation, sums over tokens) stays in its registers, as
// does its part of a row between the statistics and the output. The kernels for any row walk over the channels instead,
// and read a row again from the cache.
#pragma once

#include <type_traits>

#include "common/access.cuh"
#include "common/dtype.cuh"
#include "common/math.cuh"
#include "common/pack.cuh"
#include "common/reduce.cuh"
#include "norm_modulate/params.h"

namespace norm_modulate {

// The launching side has the same numbers.
constexpr int kWidth = 8;          // neighbouring channels of a pack: those of a thread
constexpr int kPackThreads = 512;  // at most, of a block of the kernels for packs
constexpr int kAnyThreads = 512;   // at most, of a block of the kernels for any row

constexpr int kMostWarps = 16;  // of a block

enum Norm : uint32_t { kNone = 0, kRms = 1, kLayer = 2 };

/// A block's tokens. The grid is batch × blocks of a sequence.
struct Tokens {
    int batch;
    int first;
    int end;

    __device__ explicit Tokens(const NormModulateInputs& p) {
        const int blocks = divide_up(p.token, p.block_tokens);
        batch = blockIdx.x / blocks;
        first = blockIdx.x % blocks * p.block_tokens;
        end = min(first + static_cast<int>(p.block_tokens), static_cast<int>(p.token));
    }
};

/// A row of a tensor [batch, token, channel]; null if the tensor is absent.
template <typename T, typename Pointer>
__device__ T* row_of(Pointer* data, int64_t batch_stride, int64_t token_stride, int64_t batch, int64_t token) {
    return data ? static_cast<T*>(data) + batch * batch_stride + token * token_stride : nullptr;
}

/// A batch's row of a tensor [batch, channel]; null if the tensor is absent.
template <typename T>
__device__ T* row_of(T* data, int64_t batch_stride, int64_t batch) {
    return data ? data + batch * batch_stride : nullptr;
}

/// A row of the stream or of its gradient, which is f32 or of the activations' dtype T; false if the tensor is absent.
/// Pointer: of `const void` or `void`.
template <typename T, typename Pointer>
struct StreamRow {
    Pointer* first;
    bool is_f32;

    __device__ StreamRow(Pointer* data, bool f32, int64_t batch_stride, int64_t token_stride, int64_t batch,
                         int64_t token)
        : is_f32(kIsF32<T> || f32) {
        first = is_f32 ? static_cast<Pointer*>(row_of<Value<float>>(data, batch_stride, token_stride, batch, token))
                       : static_cast<Pointer*>(row_of<Value<T>>(data, batch_stride, token_stride, batch, token));
    }

    __device__ explicit operator bool() const { return first != nullptr; }

    __device__ float operator[](int channel) const {
        return is_f32 ? at<float>()[channel] : to_float(at<T>()[channel]);
    }

    __device__ void put(int channel, float value) const {
        if (is_f32) {
            at<float>()[channel] = value;
        } else {
            at<T>()[channel] = from_float<T>(value);
        }
    }

    __device__ void load(float (&values)[kWidth], int channel) const {
        if (is_f32) {
            const Pack<float, kWidth> pack = load_pack<kWidth>(at<float>() + channel);
#pragma unroll
            for (int i = 0; i < kWidth; ++i) values[i] = pack.values[i];
        } else {
            const Pack<T, kWidth> pack = load_pack<kWidth>(at<T>() + channel);
#pragma unroll
            for (int i = 0; i < kWidth; ++i) values[i] = to_float(pack.values[i]);
        }
    }

    __device__ void store(const float (&values)[kWidth], int channel) const {
        if (is_f32) {
            store_pack<kWidth>(at<float>() + channel, values);
        } else {
            store_pack<kWidth>(at<T>() + channel, values);
        }
    }

   private:
    template <typename U>
    using Value = std::conditional_t<std::is_const_v<Pointer>, const U, U>;

    template <typename U>
    __device__ Value<U>* at() const {
        return static_cast<Value<U>*>(first);
    }
};

/// Sums over a block's threads, each in every thread, in one fixed order. Calls take turns with two buffers, so that
/// one barrier a call is enough.
template <int kCount>
struct BlockSums {
    static constexpr int kQuarter = 4;
    using Buffer = float4[2][kCount][kMostWarps / kQuarter];

    Buffer& buffer;
    int turn = 0;

    /// Warps that a block has not got count as zeros; the first call's barrier makes that known.
    __device__ explicit BlockSums(Buffer& memory) : buffer(memory) {
        const int warp = threadIdx.x;
        if (warp >= blockDim.x / kWarp && warp < kMostWarps) {
#pragma unroll
            for (int i = 0; i < kCount; ++i) place(0, i, warp) = place(1, i, warp) = 0.0f;
        }
    }

    __device__ void operator()(float (&values)[kCount]) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) values[i] = sum_over_neighbours<kWarp>(values[i]);
        if (threadIdx.x % kWarp == 0) {
#pragma unroll
            for (int i = 0; i < kCount; ++i) place(turn, i, threadIdx.x / kWarp) = values[i];
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < kCount; ++i) values[i] = 0.0f;
#pragma unroll
        for (int q = 0; q < kMostWarps / kQuarter; ++q) {
            if (q * kQuarter * kWarp >= blockDim.x) break;
#pragma unroll
            for (int i = 0; i < kCount; ++i) {
                const float4 four = buffer[turn][i][q];
                values[i] += (four.x + four.y) + (four.z + four.w);
            }
        }
        turn ^= 1;
    }

   private:
    __device__ float& place(int turn, int i, int warp) { return reinterpret_cast<float*>(buffer[turn][i])[warp]; }
};

/// What a channel's normed value is multiplied with, and what is then added.
struct Modulation {
    float factor;
    float summand;

    __device__ Modulation(float weight, float bias, float scale, float shift)
        : factor(weight * (1.0f + scale)), summand(bias * (1.0f + scale) + shift) {}
};

/// The rows of one sequence that hold a number a channel.
struct Vectors {
    const float* gate;
    const float* scale;
    const float* shift;
    const float* weight;
    const float* bias;
    float gate_offset;

    __device__ Vectors(const NormModulateInputs& p, int batch)
        : gate(row_of(p.gate, p.gate_batch_stride, batch)),
          scale(row_of(p.scale, p.scale_batch_stride, batch)),
          shift(row_of(p.shift, p.shift_batch_stride, batch)),
          weight(p.weight),
          bias(p.bias),
          gate_offset(p.gate_offset) {}

    /// What `y` is multiplied with.
    __device__ float gate_of(int channel) const { return gate ? gate_offset + gate[channel] : 1.0f; }

    __device__ Modulation modulation_of(int channel) const {
        return Modulation(weight ? weight[channel] : 1.0f, element_or_zero(bias, channel),
                          element_or_zero(scale, channel), element_or_zero(shift, channel));
    }
};

/// What the kernels for packs hold of their channels.
struct PackVectors {
    float gate[kWidth] = {};
    float factor[kWidth] = {};
    float summand[kWidth] = {};

    __device__ void load(const Vectors& v, int channel) {
        float weight[kWidth], bias[kWidth], scale[kWidth], shift[kWidth];
        load_or(gate, v.gate ? v.gate + channel : nullptr, 1.0f - v.gate_offset);
        load_or(weight, v.weight ? v.weight + channel : nullptr, 1.0f);
        load_or(bias, v.bias ? v.bias + channel : nullptr, 0.0f);
        load_or(scale, v.scale ? v.scale + channel : nullptr, 0.0f);
        load_or(shift, v.shift ? v.shift + channel : nullptr, 0.0f);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
            const Modulation modulation(weight[i], bias[i], scale[i], shift[i]);
            gate[i] = v.gate ? v.gate_offset + gate[i] : 1.0f;
            factor[i] = modulation.factor;
            summand[i] = modulation.summand;
        }
    }
};

}  // namespace norm_modulate
