// What libtorch's own profiler saw: kernels of the GPU (through CUPTI) and libtorch's operations on the CPU.
#include <torch/csrc/autograd/profiler_kineto.h>

#include "bridge.h"

namespace {

using torch::profiler::impl::ActivityType;
using torch::profiler::impl::ProfilerConfig;
using torch::profiler::impl::ProfilerState;

const std::set<ActivityType> kActivities{ActivityType::CPU, ActivityType::CUDA};

/// Takes one event; `name` lives as long as the call.
using Visit = void (*)(void* state, const char* name, bool on_gpu, std::uint64_t start_ns, std::uint64_t duration_ns);

}  // namespace

extern "C" {
/// Begins to record what this thread starts, and whatever GPUs do.
char* dim_profile_start() {
    return dim::guarded([] {
        const ProfilerConfig config(ProfilerState::KINETO);
        torch::autograd::profiler::prepareProfiler(config, kActivities);
        torch::autograd::profiler::enableProfiler(config, kActivities, {at::RecordScope::FUNCTION});
    });
}

/// Ends the recording and shows every event to `visit`.
char* dim_profile_stop(void* state, Visit visit) {
    return dim::guarded([&] {
        const auto result = torch::autograd::profiler::disableProfiler();
        for (const auto& event : result->events()) {
            const bool on_gpu = event.deviceType() == c10::DeviceType::CUDA;
            visit(state, event.name().c_str(), on_gpu, event.startNs(), event.durationNs());
        }
    });
}
}
