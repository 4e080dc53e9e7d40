#include "selective_scan/forward.cuh"

using namespace selective_scan;
using Params = SelectiveScanForward;

extern "C" __global__ void __launch_bounds__(kThreads) selective_scan_fwd_f16_n8(const __grid_constant__ Params p) {
    forward<__half, 8>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) selective_scan_fwd_f16_n16(const __grid_constant__ Params p) {
    forward<__half, 16>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) selective_scan_fwd_f16_n32(const __grid_constant__ Params p) {
    forward<__half, 32>(p);
}
extern "C" __global__ void __launch_bounds__(kThreads) selective_scan_fwd_f16_n64(const __grid_constant__ Params p) {
    forward<__half, 64>(p);
}
