#include "adamw_ema/step.cuh"

using namespace adamw_ema;
using Params = AdamwEmaStep;

extern "C" __global__ void __launch_bounds__(kStepThreads) adamw_ema_step_f32(const __grid_constant__ Params p) {
    step<float>(p);
}
extern "C" __global__ void __launch_bounds__(kStepThreads) adamw_ema_step_bf16(const __grid_constant__ Params p) {
    step<__nv_bfloat16>(p);
}
