#include "common/sum_partials.cuh"

using namespace sum_partials;

extern "C" __global__ void __launch_bounds__(kThreads) sum_partials_f32(const __grid_constant__ Params p) {
    sum<float>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) sum_partials_f16(const __grid_constant__ Params p) {
    sum<__half>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) sum_partials_bf16(const __grid_constant__ Params p) {
    sum<__nv_bfloat16>(p);
}
