#include "causal_conv1d/forward.cuh"

using namespace causal_conv1d;
using Params = CausalConv1dForward;
using Work = CausalConv1dWork;

extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(2))
    causal_conv1d_fwd_f32_w2(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<float, 2>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(3))
    causal_conv1d_fwd_f32_w3(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<float, 3>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(4))
    causal_conv1d_fwd_f32_w4(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<float, 4>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(5))
    causal_conv1d_fwd_f32_w5(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<float, 5>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(6))
    causal_conv1d_fwd_f32_w6(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<float, 6>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(7))
    causal_conv1d_fwd_f32_w7(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<float, 7>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(8))
    causal_conv1d_fwd_f32_w8(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<float, 8>(p, w);
}
