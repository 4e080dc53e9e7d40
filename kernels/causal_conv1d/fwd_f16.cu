#include "causal_conv1d/forward.cuh"

using namespace causal_conv1d;
using Params = CausalConv1dForward;
using Work = CausalConv1dWork;

extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(2))
    causal_conv1d_fwd_f16_w2(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<__half, 2>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(3))
    causal_conv1d_fwd_f16_w3(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<__half, 3>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(4))
    causal_conv1d_fwd_f16_w4(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<__half, 4>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(5))
    causal_conv1d_fwd_f16_w5(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<__half, 5>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(6))
    causal_conv1d_fwd_f16_w6(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<__half, 6>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(7))
    causal_conv1d_fwd_f16_w7(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<__half, 7>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, forward_blocks(8))
    causal_conv1d_fwd_f16_w8(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    forward<__half, 8>(p, w);
}
