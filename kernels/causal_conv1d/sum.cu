#include "causal_conv1d/sum.cuh"

using namespace causal_conv1d;

extern "C" __global__ void __launch_bounds__(kSumGroups* kWarp)
    causal_conv1d_sum(const __grid_constant__ CausalConv1dBackward p, const __grid_constant__ CausalConv1dWork w) {
    sum(p, w);
}
