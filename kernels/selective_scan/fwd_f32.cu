#include "selective_scan/forward.cuh"
#include "selective_scan/forward_by_warps.cuh"

using namespace selective_scan;
using Params = SelectiveScanForward;
using Workspace = SelectiveScanWorkspace;

extern "C" __global__ void __launch_bounds__(kThreads, 4)
    selective_scan_fwd_f32_n8(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    forward<float, Wide<8>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 4)
    selective_scan_fwd_f32_n16(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    forward<float, Wide<16>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 3)
    selective_scan_fwd_f32_n32(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    forward<float, Wide<32>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 3)
    selective_scan_fwd_f32_n64(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    forward<float, Wide<64>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 4)
    selective_scan_fwd_narrow_f32_n16(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    forward<float, Narrow<16>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kSegmentWarps* kWarp, 3)
    selective_scan_fwd_by_warps_f32_n16(const __grid_constant__ Params p) {
    forward_by_warps<float, Shared<16>>(p);
}
