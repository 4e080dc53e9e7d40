#include "norm_modulate/forward.cuh"

using namespace norm_modulate;
using Params = NormModulateForward;

extern "C" __global__ void __launch_bounds__(kPackThreads) norm_modulate_fwd_f16(const __grid_constant__ Params p) {
    forward_packs<__half>(p);
}
extern "C" __global__ void __launch_bounds__(kAnyThreads) norm_modulate_fwd_f16_any(const __grid_constant__ Params p) {
    forward_any<__half>(p);
}
