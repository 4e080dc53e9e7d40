// Process groups of libtorch's own distributed engine, c10d: a store where processes find each other, Gloo between
// CPUs, NCCL between GPUs.
//
// The header of Gloo's group includes Gloo's own headers, which libtorch's wheel does not bring, and that of NCCL's
// includes NCCL's and CUDA's; NCCL's group moreover stands in libtorch_cuda.so, which the programs open when they
// start. So both are made by their exported constructors and then seen through their base class, `c10d::Backend`, whose
// header has no such needs. build.rs has made sure that this is the version whose names these are.
#include <c10/util/env.h>
#include <dlfcn.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "bridge.h"

using at::Tensor;
using c10::intrusive_ptr;
using std::chrono::milliseconds;

/// A store, or a part of one under a prefix.
struct DimStore {
    intrusive_ptr<c10d::Store> store;
};

/// A process's place in a group.
struct DimGroup {
    intrusive_ptr<c10d::Backend> backend;
};

/// An operation that may still be under way.
struct DimWork {
    intrusive_ptr<c10d::Work> work;
};

namespace {

/// Far more than any of the classes has; `operator delete` of a deleting destructor asks for no size.
constexpr std::size_t kObjectBytes = 1 << 16;

template <typename F>
F* find(const char* name, const char* library) {
    auto* function = reinterpret_cast<F*>(dlsym(RTLD_DEFAULT, name));
    TORCH_CHECK(function != nullptr, "libtorch has no ", name, ": expected ", library, " of version 2.11.0");
    return function;
}

/// An object of a class that is known by its base alone, made by `construct` in memory of its own.
template <typename Base, typename Construct>
intrusive_ptr<Base> made(Construct construct) {
    void* memory = ::operator new(kObjectBytes);
    std::memset(memory, 0, kObjectBytes);
    try {
        construct(memory);
    } catch (...) {
        ::operator delete(memory);
        throw;
    }
    // `Base` is the first and only base, so both begin at one address.
    return intrusive_ptr<Base>::unsafe_steal_from_new(static_cast<Base*>(memory));
}

using Options = intrusive_ptr<c10d::Backend::Options>;
using StorePtr = intrusive_ptr<c10d::Store>;

// An intrusive_ptr is one pointer whatever it points to, and is passed by value as the address of a temporary; so these
// types, with the base class in the place of the derived, are those of the functions as far as a call can tell.
using GlooOptions = Options(milliseconds);
using GlooConstruct = void(void*, const StorePtr&, int, int, Options);
using NcclOptions = void(void*, bool);
using NcclConstruct = void(void*, StorePtr, int, int, Options);

intrusive_ptr<c10d::Backend> gloo(const StorePtr& store, int rank, int size, milliseconds timeout) {
    auto* create = find<GlooOptions>(
        "_ZN4c10d16ProcessGroupGloo7Options14create_defaultENSt6chrono8durationIlSt5ratioILl1ELl1000EEEE",
        "libtorch_cpu.so");
    auto* construct = find<GlooConstruct>(
        "_ZN4c10d16ProcessGroupGlooC1ERKN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_default_null_"
        "typeIS3_EEEEiiNS2_INS0_7OptionsENS5_ISA_EEEE",
        "libtorch_cpu.so");
    const Options options = create(timeout);
    return made<c10d::Backend>([&](void* self) { construct(self, store, rank, size, options); });
}

intrusive_ptr<c10d::Backend> nccl(const StorePtr& store, int rank, int size, milliseconds timeout) {
    auto* construct_options = find<NcclOptions>("_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb", "libtorch_cuda.so");
    auto* construct = find<NcclConstruct>(
        "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_default_null_"
        "typeIS3_EEEEiiNS2_INS0_7OptionsENS5_IS8_EEEE",
        "libtorch_cuda.so");
    const Options options =
        made<c10d::Backend::Options>([&](void* self) { construct_options(self, /*is_high_priority_stream=*/false); });
    options->timeout = timeout;
    options->group_name = "dim";
    options->group_desc = "dim";
    for (int peer = 0; peer < size; ++peer) options->global_ranks_in_group.push_back(static_cast<uint64_t>(peer));
    return made<c10d::Backend>([&](void* self) { construct(self, store, rank, size, options); });
}

/// Turns off c10d's flight recorder, which keeps the last two thousand operations for PyTorch's debugging tools: it is
/// one for all groups of a process, and groups that several threads use at once, as tests do, write into it without a
/// lock. Who sets the variable has it nevertheless.
void without_flight_recorder() {
    [[maybe_unused]] static const bool once = [] {
        c10::utils::set_env("TORCH_FR_BUFFER_SIZE", "0", /*overwrite=*/false);
        return true;
    }();
}

std::vector<uint8_t> bytes_of(const char* text, std::size_t length) { return {text, text + length}; }

/// Calls Rust whenever a gradient has been added to a tensor's .grad.
struct Hook : torch::autograd::PostAccumulateGradHook {
    using Call = char* (*)(void* state, const Tensor* leaf);
    using Drop = void (*)(void* state);
    Hook(void* state, Call call, Drop drop) : state(state), call(call), drop(drop) {}
    ~Hook() override { drop(state); }
    void operator()(const torch::autograd::Variable& tensor) override {
        char* error = call(state, &tensor);
        if (error == nullptr) return;
        const std::string text(error);
        std::free(error);
        TORCH_CHECK(false, text);
    }
    void* state;
    Call call;
    Drop drop;
};

}  // namespace

extern "C" {
/// Connects to the store at `host`:`port`, or opens it there.
char* dim_store_new(const char* host, std::uint16_t port, bool is_server, std::int64_t timeout_ms, DimStore** store) {
    return dim::guarded([&] {
        c10d::TCPStoreOptions options;
        options.port = port;
        options.isServer = is_server;
        options.waitWorkers = false;
        options.timeout = milliseconds(timeout_ms);
        *store = new DimStore{c10::make_intrusive<c10d::TCPStore>(std::string(host), options)};
    });
}

/// The part of a store whose keys begin with `prefix`.
char* dim_store_prefixed(const DimStore* store, const char* prefix, DimStore** part) {
    return dim::guarded(
        [&] { *part = new DimStore{c10::make_intrusive<c10d::PrefixStore>(std::string(prefix), store->store)}; });
}

/// Sets a key.
char* dim_store_set(DimStore* store, const char* key, const char* value, std::size_t length) {
    return dim::guarded([&] { store->store->set(key, bytes_of(value, length)); });
}

/// Waits for a key and shows its value to `visit`.
char* dim_store_get(DimStore* store, const char* key, std::int64_t timeout_ms, void* state,
                    void (*visit)(void* state, const std::uint8_t* value, std::size_t length)) {
    return dim::guarded([&] {
        store->store->wait({std::string(key)}, milliseconds(timeout_ms));
        const auto value = store->store->get(key);
        visit(state, value.data(), value.size());
    });
}

/// Adds to the number at a key, which begins at 0, and returns the sum.
char* dim_store_add(DimStore* store, const char* key, std::int64_t amount, std::int64_t* sum) {
    return dim::guarded([&] { *sum = store->store->add(key, amount); });
}

/// Whether a key is set.
char* dim_store_check(DimStore* store, const char* key, bool* is_set) {
    return dim::guarded([&] { *is_set = store->store->check({std::string(key)}); });
}

/// Lets go of a store; one that was opened here closes with the last handle.
char* dim_store_free(DimStore* store) {
    return dim::guarded([&] { delete store; });
}

/// Joins a group of `size` processes as number `rank`.
char* dim_group_new(const DimStore* store, bool on_gpu, int rank, int size, std::int64_t timeout_ms, DimGroup** group) {
    return dim::guarded([&] {
        without_flight_recorder();
        const milliseconds timeout(timeout_ms);
        *group =
            new DimGroup{on_gpu ? nccl(store->store, rank, size, timeout) : gloo(store->store, rank, size, timeout)};
    });
}

/// Leaves a group.
char* dim_group_free(DimGroup* group) {
    return dim::guarded([&] { delete group; });
}

/// What `dim_group_start` does.
enum DimOperation : std::uint8_t {
    kAllReduceSum = 0,
    kAllReduceMax = 1,
    kReduceSum = 2,
    kBroadcast = 3,
    kAllGather = 4,
    kReduceScatterSum = 5,
    kSend = 6,
    kReceive = 7,
};

/// Starts an operation on `tensor`, which it changes in place; gathering and scattering read `input` and write
/// `tensor`. `peer` is the other rank, or the root.
char* dim_group_start(DimGroup* group, std::uint8_t operation, const Tensor* tensor, const Tensor* input, int peer,
                      DimWork** work) {
    return dim::guarded([&] {
        c10d::Backend& backend = *group->backend;
        Tensor target = *tensor;
        std::vector<Tensor> tensors{target};
        intrusive_ptr<c10d::Work> started;
        switch (operation) {
            case kAllReduceSum:
            case kAllReduceMax: {
                c10d::AllreduceOptions options;
                options.reduceOp = operation == kAllReduceMax ? c10d::ReduceOp::MAX : c10d::ReduceOp::SUM;
                started = backend.allreduce(tensors, options);
                break;
            }
            case kReduceSum: {
                c10d::ReduceOptions options;
                options.rootRank = peer;
                started = backend.reduce(tensors, options);
                break;
            }
            case kBroadcast: {
                c10d::BroadcastOptions options;
                options.rootRank = peer;
                started = backend.broadcast(tensors, options);
                break;
            }
            case kAllGather: {
                Tensor part = *input;
                started = backend._allgather_base(target, part);
                break;
            }
            case kReduceScatterSum: {
                Tensor whole = *input;
                started = backend._reduce_scatter_base(target, whole);
                break;
            }
            case kSend:
                started = backend.send(tensors, peer, /*tag=*/0);
                break;
            case kReceive:
                started = backend.recv(tensors, peer, /*tag=*/0);
                break;
            default:
                TORCH_CHECK(false, "no operation has number ", static_cast<int>(operation));
        }
        *work = new DimWork{std::move(started)};
    });
}

/// Starts to copy each of `count` tensors from its root to all, as one operation; for NCCL alone.
char* dim_group_broadcasts(DimGroup* group, const Tensor* const* tensors, const int* roots, std::size_t count,
                           DimWork** work) {
    return dim::guarded([&] {
        c10d::Backend& backend = *group->backend;
        backend.startCoalescing();
        for (std::size_t index = 0; index < count; ++index) {
            std::vector<Tensor> one{*tensors[index]};
            c10d::BroadcastOptions options;
            options.rootRank = roots[index];
            backend.broadcast(one, options);
        }
        *work = new DimWork{backend.endCoalescing()};
    });
}

/// Starts to send every process its part of `input`, of `sent[rank]` elements, and to receive from each
/// `received[rank]` elements into `output`; both of one dimension, the parts one after the other by rank.
char* dim_group_all_to_all(DimGroup* group, const Tensor* output, const Tensor* input, const std::int64_t* received,
                           const std::int64_t* sent, std::size_t size, DimWork** work) {
    return dim::guarded([&] {
        Tensor target = *output, source = *input;
        std::vector<std::int64_t> output_sizes(received, received + size), input_sizes(sent, sent + size);
        *work = new DimWork{group->backend->alltoall_base(target, source, output_sizes, input_sizes)};
    });
}

/// Between CPUs, waits for an operation; between GPUs, lets the current stream wait for it.
char* dim_work_wait(DimWork* work) {
    return dim::guarded([&] { work->work->wait(); });
}

/// Forgets an operation, which goes on nevertheless.
char* dim_work_free(DimWork* work) {
    return dim::guarded([&] { delete work; });
}

/// Calls `call` after every accumulation of a gradient into `leaf`, and `drop` when the leaf ends.
char* dim_after_accumulation(const Tensor* leaf, void* state, Hook::Call call, Hook::Drop drop) {
    auto hook = std::make_unique<Hook>(state, call, drop);
    return dim::guarded([&] { torch::autograd::impl::set_post_acc_grad_hooks(*leaf, std::move(hook)); });
}

/// Does what autograd does after it has added a gradient to the leaf's .grad, for somebody else who has.
char* dim_gradient_was_added(const Tensor* leaf) {
    return dim::guarded([&] {
        if (const auto& hook = torch::autograd::impl::post_acc_grad_hooks(*leaf)) (*hook)(*leaf);
    });
}

/// Takes a leaf's .grad away from it; nullptr if it has none.
char* dim_take_gradient(const Tensor* leaf, Tensor** gradient) {
    return dim::guarded([&] {
        Tensor& held = leaf->mutable_grad();
        *gradient = held.defined() ? new Tensor(std::move(held)) : nullptr;
        held = Tensor();
    });
}

/// Makes CUDA device `ordinal` the one that libtorch takes where none is named.
char* dim_set_cuda_device(int ordinal) {
    return dim::guarded([&] {
        const auto* guard = c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA);
        guard->setDevice(c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(ordinal)));
    });
}
}
