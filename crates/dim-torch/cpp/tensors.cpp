// The few tensor operations that tch does not expose.
#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstdint>

#include "bridge.h"

using at::Tensor;

extern "C" {
/// Makes `gradient` the .grad of `parameter`, so that backward accumulates into it in place.
char* dim_set_gradient(const Tensor* parameter, const Tensor* gradient) {
    return dim::guarded([&] { parameter->mutable_grad() = *gradient; });
}

/// A convolution with square filters as a product of its patches, whatever libtorch would choose.
char* dim_conv2d_by_products(const Tensor* x, const Tensor* weight, const Tensor* bias, std::int64_t stride,
                             std::int64_t padding, Tensor** out) {
    return dim::guarded([&] {
        const auto side = weight->size(-1);
        *out = new Tensor(at::thnn_conv2d(*x, *weight, {side, side}, *bias, {stride, stride}, {padding, padding}));
    });
}

/// Tells autograd that `tensor` was written, as libtorch's own in-place operations do: a graph that saved it then
/// refuses to run backward, and whoever keeps something derived from it sees that it is stale.
char* dim_bump_version(const Tensor* tensor) {
    return dim::guarded([&] { tensor->unsafeGetTensorImpl()->bump_version(); });
}

/// Gives the storage of `tensor` this many bytes of new memory, uninitialised; 0 frees what it has. The tensor and its
/// views stay what they are, and nobody may touch their elements while there is no memory.
char* dim_set_storage_bytes(const Tensor* tensor, std::size_t bytes) {
    return dim::guarded([&] {
        c10::StorageImpl* storage = tensor->storage().unsafeGetStorageImpl();
        TORCH_CHECK(storage->allocator() != nullptr, "this storage has no allocator");
        storage->set_data_ptr_noswap(bytes == 0 ? at::DataPtr(nullptr, storage->device())
                                                : storage->allocator()->allocate(bytes));
        storage->set_nbytes(bytes);
    });
}

/// Bytes of the storage of `tensor`.
char* dim_storage_bytes(const Tensor* tensor, std::int64_t* bytes) {
    return dim::guarded([&] { *bytes = static_cast<std::int64_t>(tensor->storage().nbytes()); });
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

/// Whether f32 means f32: cuDNN may otherwise round the inputs of convolutions to TF32, which keeps 10 bits. Products
/// are never rounded.
char* dim_allow_tf32_convolutions(bool allowed) {
    return dim::guarded([&] {
        auto& context = at::globalContext();
        context.setAllowTF32CuDNN(allowed);
        context.setAllowTF32CuBLAS(false);
    });
}

/// The opposite of dim_prefer_deterministic, for measurements: libtorch's fastest operations, chosen by trying where it
/// can.
char* dim_prefer_fast() {
    return dim::guarded([&] {
        auto& context = at::globalContext();
        context.setBenchmarkCuDNN(true);
        context.setDeterministicCuDNN(false);
        context.setDeterministicAlgorithms(false, /*warn_only=*/false);
    });
}

/// Which implementations scaled_dot_product_attention may take; the plain one stays, for what no other can do.
char* dim_choose_attention(bool flash, bool cudnn, bool memory_efficient) {
    return dim::guarded([&] {
        auto& context = at::globalContext();
        context.setSDPUseFlash(flash);
        context.setSDPUseCuDNN(cudnn);
        context.setSDPUseMemEfficient(memory_efficient);
        context.setSDPUseMath(true);
        // The one that was asked for comes before the plain one.
        using at::SDPBackend;
        context.setSDPPriorityOrder(
            {static_cast<int64_t>(SDPBackend::cudnn_attention), static_cast<int64_t>(SDPBackend::flash_attention),
             static_cast<int64_t>(SDPBackend::efficient_attention), static_cast<int64_t>(SDPBackend::math),
             static_cast<int64_t>(SDPBackend::overrideable)});
    });
}

/// The most bytes that tensors held on CUDA device `ordinal` since dim_reset_peak_memory.
char* dim_peak_memory(int ordinal, std::int64_t* bytes) {
    return dim::guarded([&] {
        const auto stats =
            c10::getDeviceAllocator(c10::DeviceType::CUDA)->getDeviceStats(static_cast<c10::DeviceIndex>(ordinal));
        *bytes = stats.allocated_bytes[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
    });
}

/// Gives memory that no tensor holds back to the device, and starts counting anew from what tensors hold now.
char* dim_reset_peak_memory(int ordinal) {
    return dim::guarded([&] {
        auto* allocator = c10::getDeviceAllocator(c10::DeviceType::CUDA);
        allocator->emptyCache();
        allocator->resetPeakStats(static_cast<c10::DeviceIndex>(ordinal));
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
