#include "adamw_ema/gradient_norm.cuh"

using namespace adamw_ema;
using Params = GradientNorm;

extern "C" __global__ void __launch_bounds__(kNormThreads) gradient_norm_f32(const __grid_constant__ Params p) {
    sum_squares<float>(p);
}
extern "C" __global__ void __launch_bounds__(kNormThreads) gradient_norm_bf16(const __grid_constant__ Params p) {
    sum_squares<__nv_bfloat16>(p);
}
extern "C" __global__ void __launch_bounds__(kTotalThreads) gradient_norm_total(const __grid_constant__ Params p) {
    norm_of_sums(p);
}
