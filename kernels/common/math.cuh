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

/// The same on the multiply-add units, to 3e-7, for x below 127: 2^x = 2^i 2^f with i the nearest integer, and a
/// polynomial of the fifth degree for 2^f.
__device__ inline float exp2_polynomial(float x) {
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: added to a small number, it leaves the nearest integer
    x = fmaxf(x, -126.0f);
    const float shifted = x + kRound;
    const float f = x - (shifted - kRound);
    float y = 0.00132669706f;
    y = fmaf(y, f, 0.00967545994f);
    y = fmaf(y, f, 0.0555074252f);
    y = fmaf(y, f, 0.240221217f);
    y = fmaf(y, f, 0.693146944f);
    y = fmaf(y, f, 1.00000012f);
    return __int_as_float(__float_as_int(y) + (__float_as_int(shifted) << 23));
}

/// 1 / x to one unit in the last place; 1 / infinity is zero.
__device__ inline float reciprocal_fast(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ inline float sigmoid(float x) { return reciprocal_fast(1.0f + exp2_fast(-kLog2E * x)); }

/// The derivative of x sigmoid(x), from sigmoid(x).
__device__ inline float silu_slope(float x, float sigmoid_x) { return sigmoid_x * (1.0f + x * (1.0f - sigmoid_x)); }

/// log(1 + x) for x in [0, 1], to 4e-7 of itself: a polynomial of the seventh degree for log(1 + x) / x, so that small
/// step sizes keep their digits, on the multiply-add units, which the scan leaves idle.
__device__ inline float log1p_of_fraction(float x) {
    float y = -0.00833649747f;
    y = fmaf(y, x, 0.0433708504f);
    y = fmaf(y, x, -0.106677905f);
    y = fmaf(y, x, 0.176754937f);
    y = fmaf(y, x, -0.244704694f);
    y = fmaf(y, x, 0.332711875f);
    y = fmaf(y, x, -0.499971271f);
    y = fmaf(y, x, 0.999999762f);
    return y * x;
}

/// log(1 + exp(x)). Above 20, where the authors' kernels take the identity, the second term is below half a unit of x.
__device__ inline float softplus(float x) { return fmaxf(x, 0.0f) + log1p_of_fraction(exp2_fast(-kLog2E * fabsf(x))); }

__device__ inline float softplus_slope(float x) { return sigmoid(x); }
