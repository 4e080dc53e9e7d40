#include "norm_modulate/sums.cuh"

extern "C" __global__ void __launch_bounds__(norm_modulate::kSumThreads)
    norm_modulate_sums(const __grid_constant__ NormModulateSums p) {
    norm_modulate::sums(p);
}
