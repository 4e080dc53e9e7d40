#include "norm_modulate/forward.cuh"

using namespace norm_modulate;
using Params = NormModulateForward;

extern "C" __global__ void __launch_bounds__(kPackThreads) norm_modulate_fwd_f32(const __grid_constant__ Params p) {
    forward_packs<float>(p);
}
extern "C" __global__ void __launch_bounds__(kAnyThreads) norm_modulate_fwd_f32_any(const __grid_constant__ Params p) {
    forward_any<float>(p);
}
