#include "norm_modulate/backward.cuh"

using namespace norm_modulate;
using Params = NormModulateBackward;

extern "C" __global__ void __maxnreg__(kRegisters) norm_modulate_bwd_f32(const __grid_constant__ Params p) {
    backward_packs<float, false>(p);
}
extern "C" __global__ void __launch_bounds__(kPackThreads)
    norm_modulate_bwd_f32_centred(const __grid_constant__ Params p) {
    backward_packs<float, true>(p);
}
extern "C" __global__ void __launch_bounds__(kAnyThreads) norm_modulate_bwd_f32_any(const __grid_constant__ Params p) {
    backward_any<float>(p);
}
