#include "selective_scan/states.cuh"

using namespace selective_scan;
using Params = SelectiveScanBackward;
using Workspace = SelectiveScanWorkspace;

extern "C" __global__ void __launch_bounds__(kThreads, 4)
    selective_scan_states_bf16_n8(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    states<__nv_bfloat16, Wide<8>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 5)
    selective_scan_states_bf16_n16(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    states<__nv_bfloat16, Wide<16>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 3)
    selective_scan_states_bf16_n32(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    states<__nv_bfloat16, Wide<32>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 3)
    selective_scan_states_bf16_n64(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    states<__nv_bfloat16, Wide<64>>(p, w);
}
