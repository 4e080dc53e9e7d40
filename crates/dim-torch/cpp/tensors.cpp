// The few tensor operations that tch does not expose.
#include <ATen/Context.h>
#include <ATen/ops/_fused_adamw.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <optional>
#include <vector>

#include "bridge.h"

using at::Tensor;

extern "C" {
/// Makes `gradient` the .grad of `parameter`, so that backward accumulates into it in place.
char* dim_set_gradient(const Tensor* parameter, const Tensor* gradient) {
    return dim::guarded([&] { parameter->mutable_grad() = *gradient; });
}

/// One AdamW step over flat buffers in a single pass (libtorch's fused kernel, CPU and CUDA).
/// `step` is a 0-dim f32 tensor on the same device holding the number of this step, from 1.
char* dim_fused_adamw(const Tensor* values, const Tensor* gradients, const Tensor* first_moment,
                      const Tensor* second_moment, const Tensor* step, double lr, double beta1, double beta2,
                      double weight_decay, double eps) {
    return dim::guarded([&] {
        std::vector<Tensor> parameters{*values}, grads{*gradients}, first{*first_moment}, second{*second_moment},
            steps{*step};
        at::_fused_adamw_(parameters, grads, first, second, /*max_exp_avg_sqs=*/{}, steps, lr, beta1, beta2,
                          weight_decay, eps, /*amsgrad=*/false, /*maximize=*/false);
    });
}

/// Lets libtorch take the variants of its GPU operations that give the same bits twice. Where there is none it warns.
char* dim_prefer_deterministic() {
    return dim::guarded([&] {
        auto& context = at::globalContext();
        context.setBenchmarkCuDNN(false);
        context.setDeterministicCuDNN(true);
        context.setDeterministicAlgorithms(true, /*warn_only=*/true);
        // Every buffer of ours is written whole before it is read; filling them first would only cost time.
        context.setDeterministicFillUninitializedMemory(false);
    });
}

/// Makes f32 mean f32: cuDNN would otherwise round the inputs of convolutions to TF32, which keeps 10 bits.
char* dim_forbid_tf32() {
    return dim::guarded([&] {
        auto& context = at::globalContext();
        context.setAllowTF32CuDNN(false);
        context.setAllowTF32CuBLAS(false);
    });
}

/// The current stream of CUDA device `ordinal`, through the interface that libtorch_cuda registers when it is loaded.
char* dim_current_cuda_stream(int ordinal, void** stream) {
    return dim::guarded([&] {
        const auto* guard = c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA);
        const c10::Device device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(ordinal));
        *stream = guard->getStream(device).native_handle();
    });
}
}
