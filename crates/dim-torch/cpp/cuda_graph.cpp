// CUDA graphs by libtorch's own at::cuda::CUDAGraph, whose memory and random numbers the rest of libtorch knows.
//
// The programs are linked against libtorch_cpu alone and open libtorch_cuda.so when they start, and its headers want
// CUDA's, which a machine without a GPU does not have. So the class is reached through its exported functions by their
// names; build.rs has made sure that this is the version whose names these are.
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <dlfcn.h>

#include <cstdint>
#include <utility>

#include "bridge.h"

namespace {

/// libtorch's number of a memory pool; {0, 0} asks for one of the graph's own.
using Pool = std::pair<unsigned long long, unsigned long long>;

/// The functions of the class, by what they do.
struct Functions {
    void (*construct)(void* self, bool keep_graph);
    void (*destroy)(void* self);
    void (*capture_begin)(void* self, Pool pool, int mode);
    void (*capture_end)(void* self);
    void (*replay)(void* self);
    /// The runtime's own, which libtorch_cuda.so brings.
    int (*begin_stream_capture)(void* stream, int mode);
};

/// Other threads may do what they like on other streams meanwhile (cudaStreamCaptureModeThreadLocal).
constexpr int kThreadLocal = 1;

template <typename F>
void find(F*& function, const char* name) {
    function = reinterpret_cast<F*>(dlsym(RTLD_DEFAULT, name));
    TORCH_CHECK(function != nullptr, "libtorch has no ", name, ": CUDA graphs need libtorch_cuda.so of version 2.11.0");
}

Functions functions() {
    Functions all{};
    find(all.construct, "_ZN2at4cuda9CUDAGraphC1Eb");
    find(all.destroy, "_ZN2at4cuda9CUDAGraphD1Ev");
    find(all.capture_begin, "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode");
    find(all.capture_end, "_ZN2at4cuda9CUDAGraph11capture_endEv");
    find(all.replay, "_ZN2at4cuda9CUDAGraph6replayEv");
    find(all.begin_stream_capture, "cudaStreamBeginCapture");
    return all;
}

const c10::impl::DeviceGuardImplInterface& cuda() { return *c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA); }

/// A graph, and the stream that was current before its own became so.
struct Graph {
    explicit Graph(int ordinal)
        : functions(::functions()),
          device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(ordinal)),
          before(cuda().getStream(device)) {
        functions.construct(object, /*keep_graph=*/false);
    }
    ~Graph() { functions.destroy(object); }

    Functions functions;
    c10::Device device;
    c10::Stream before;
    /// The class has about 200 bytes.
    alignas(64) unsigned char object[4096] = {};
};

}  // namespace

extern "C" {
/// A graph without content; the current stream of CUDA device `ordinal` becomes one that can be captured.
char* dim_graph_new(int ordinal, Graph** graph) {
    return dim::guarded([&] {
        auto made = std::make_unique<Graph>(ordinal);
        cuda().synchronizeDevice(made->device.index());
        cuda().exchangeStream(cuda().getStreamFromGlobalPool(made->device, /*isHighPriority=*/false));
        *graph = made.release();
    });
}

/// From here on the current stream's work is recorded instead of done. The recording's memory is its own, and what is
/// cached for others cannot be freed during it: so it is before.
char* dim_graph_begin(Graph* graph) {
    return dim::guarded([&] {
        cuda().synchronizeDevice(graph->device.index());
        c10::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache();
        graph->functions.capture_begin(graph->object, Pool{0, 0}, kThreadLocal);
    });
}

/// Ends the recording.
char* dim_graph_end(Graph* graph) {
    return dim::guarded([&] {
        const Functions& functions = graph->functions;
        try {
            functions.capture_end(graph->object);
        } catch (...) {
            // Work that cannot be recorded ends the stream's recording but not libtorch's, which would go on to keep
            // random numbers and memory for it. An empty recording lets libtorch come to its end, too.
            if (functions.begin_stream_capture(cuda().getStream(graph->device).native_handle(), kThreadLocal) == 0) {
                try {
                    functions.capture_end(graph->object);
                } catch (...) {
                }
            }
            throw;
        }
    });
}

/// The stream that was current before dim_graph_new is so again.
char* dim_graph_leave(Graph* graph) {
    return dim::guarded([&] {
        cuda().synchronizeDevice(graph->device.index());
        cuda().exchangeStream(graph->before);
    });
}

/// Does what was recorded, on the current stream.
char* dim_graph_replay(Graph* graph) {
    return dim::guarded([&] { graph->functions.replay(graph->object); });
}

/// Ends the life of a graph and of its memory.
char* dim_graph_free(Graph* graph) {
    return dim::guarded([&] { delete graph; });
}
}
