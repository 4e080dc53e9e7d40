// Elementary functions on the exponential unit.
#pragma once

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;

/// 2^x to two units in the last place; results below the smallest normal number are zero.
__device__ inline float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ inline float sigmoid(float x) { return __fdividef(1.0f, 1.0f + exp2_fast(-kLog2E * x)); }

/// The derivative of x sigmoid(x), from sigmoid(x).
__device__ inline float silu_slope(float x, float sigmoid_x) { return sigmoid_x * (1.0f + x * (1.0f - sigmoid_x)); }

/// Above this, softplus is the identity, as in the authors' kernels.
constexpr float kSoftplusIdentity = 20.0f;

__device__ inline float softplus(float x) { return x > kSoftplusIdentity ? x : log1pf(exp2_fast(kLog2E * x)); }

__device__ inline float softplus_slope(float x) { return x > kSoftplusIdentity ? 1.0f : sigmoid(x); }
