#include "selective_scan/states.cuh"

using namespace selective_scan;
using Inputs = SelectiveScanInputs;
using Workspace = SelectiveScanWorkspace;

extern "C" __global__ void __launch_bounds__(kThreads)
    selective_scan_join_n8(const __grid_constant__ Inputs p, const __grid_constant__ Workspace w) {
    join<8>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    selective_scan_join_n16(const __grid_constant__ Inputs p, const __grid_constant__ Workspace w) {
    join<16>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    selective_scan_join_n32(const __grid_constant__ Inputs p, const __grid_constant__ Workspace w) {
    join<32>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads)
    selective_scan_join_n64(const __grid_constant__ Inputs p, const __grid_constant__ Workspace w) {
    join<64>(p, w);
}
