#include "causal_conv1d/backward.cuh"

using namespace causal_conv1d;
using Params = CausalConv1dBackward;
using Work = CausalConv1dWork;

extern "C" __global__ void __launch_bounds__(kThreads, backward_blocks(2))
    causal_conv1d_bwd_bf16_w2(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    backward<__nv_bfloat16, 2>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, backward_blocks(3))
    causal_conv1d_bwd_bf16_w3(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    backward<__nv_bfloat16, 3>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, backward_blocks(4))
    causal_conv1d_bwd_bf16_w4(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    backward<__nv_bfloat16, 4>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, backward_blocks(5))
    causal_conv1d_bwd_bf16_w5(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    backward<__nv_bfloat16, 5>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, backward_blocks(6))
    causal_conv1d_bwd_bf16_w6(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    backward<__nv_bfloat16, 6>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, backward_blocks(7))
    causal_conv1d_bwd_bf16_w7(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    backward<__nv_bfloat16, 7>(p, w);
}
extern "C" __global__ void __launch_bounds__(kThreads, backward_blocks(8))
    causal_conv1d_bwd_bf16_w8(const __grid_constant__ Params p, const __grid_constant__ Work w) {
    backward<__nv_bfloat16, 8>(p, w);
}
