#include "selective_scan/forward.cuh"

using namespace selective_scan;
using Params = SelectiveScanForward;

extern "C" __global__ void __launch_bounds__(kThreads) selective_scan_fwd_f32_n8(const __grid_constant__ Params p) {
    forward<float, 8>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) selective_scan_fwd_f32_n16(const __grid_constant__ Params p) {
    forward<float, 16>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) selective_scan_fwd_f32_n32(const __grid_constant__ Params p) {
    forward<float, 32>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) selective_scan_fwd_f32_n64(const __grid_constant__ Params p) {
    forward<float, 64>(p);
}
