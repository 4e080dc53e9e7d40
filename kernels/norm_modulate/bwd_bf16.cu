#include "norm_modulate/backward.cuh"

using namespace norm_modulate;
using Params = NormModulateBackward;

extern "C" __global__ void __maxnreg__(kLeanRegisters) norm_modulate_bwd_bf16(const __grid_constant__ Params p) {
    backward_packs<__nv_bfloat16, false>(p);
}
extern "C" __global__ void __maxnreg__(kRegisters) norm_modulate_bwd_bf16_centred(const __grid_constant__ Params p) {
    backward_packs<__nv_bfloat16, true>(p);
}
extern "C" __global__ void __launch_bounds__(kAnyThreads) norm_modulate_bwd_bf16_any(const __grid_constant__ Params p) {
    backward_any<__nv_bfloat16>(p);
}
