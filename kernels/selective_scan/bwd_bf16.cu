#include "selective_scan/backward.cuh"

using namespace selective_scan;
using Params = SelectiveScanBackward;
using Workspace = SelectiveScanWorkspace;

extern "C" __global__ void __launch_bounds__(kThreads, 2)
    selective_scan_bwd_bf16_n8(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    backward<__nv_bfloat16, Paired<8>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 3)
    selective_scan_bwd_bf16_n16(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    backward<__nv_bfloat16, Paired<16>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 2)
    selective_scan_bwd_bf16_n32(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    backward<__nv_bfloat16, Paired<32>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 2)
    selective_scan_bwd_bf16_n64(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    backward<__nv_bfloat16, Paired<64>>(p, w);
}
