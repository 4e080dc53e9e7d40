// The few tensor operations that tch does not expose.
#include <ATen/Context.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "bridge.h"

using at::Tensor;

extern "C" {
/// Makes `gradient` the .grad of `parameter`, so that backward accumulates into it in place.
char* dim_set_gradient(const Tensor* parameter, const Tensor* gradient) {
    return dim::guarded([&] { parameter->mutable_grad() = *gradient; });
}

/// Tells autograd that `tensor` was written, as libtorch's own in-place operations do: a graph that saved it then
/// refuses to run backward, and whoever keeps something derived from it sees that it is stale.
char* dim_bump_version(const Tensor* tensor) {
    return dim::guarded([&] { tensor->unsafeGetTensorImpl()->bump_version(); });
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
