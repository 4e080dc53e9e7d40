#include "selective_scan/forward.cuh"
#include "selective_scan/forward_by_warps.cuh"

using namespace selective_scan;
using Params = SelectiveScanForward;
using Workspace = SelectiveScanWorkspace;

extern "C" __global__ void __launch_bounds__(kThreads, 4)
    selective_scan_fwd_f16_n8(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    forward<__half, Wide<8>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 4)
    selective_scan_fwd_f16_n16(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    forward<__half, Wide<16>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 3)
    selective_scan_fwd_f16_n32(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    forward<__half, Wide<32>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 3)
    selective_scan_fwd_f16_n64(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    forward<__half, Wide<64>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, 4)
    selective_scan_fwd_narrow_f16_n16(const __grid_constant__ Params p, const __grid_constant__ Workspace w) {
    forward<__half, Narrow<16>>(p, w);
}
extern "C" __global__ void __launch_bounds__(kSegmentWarps* kWarp, 3)
    selective_scan_fwd_by_warps_f16_n16(const __grid_constant__ Params p) {
    forward_by_warps<__half, Shared<16>>(p);
}
