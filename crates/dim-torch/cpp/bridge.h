// What the C++ side of the bridge and its Rust side agree on. Every function returns nullptr on success or a
// message allocated with malloc, which the caller frees: no C++ exception and no Rust panic crosses this line.
#pragma once

#include <ATen/ATen.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>

namespace dim {

/// A copy of `text` that the Rust side frees with free().
inline char* message(const char* text) {
    const std::size_t size = std::strlen(text) + 1;
    char* copy = static_cast<char*>(std::malloc(size));
    if (copy != nullptr) std::memcpy(copy, text, size);
    return copy;
}

/// Runs `body`, turning any exception into a message.
template <class Body>
char* guarded(Body body) {
    try {
        body();
        return nullptr;
    } catch (const c10::Error& error) {
        return message(error.what_without_backtrace());
    } catch (const std::exception& error) {
        return message(error.what());
    } catch (...) {
        return message("unknown C++ exception");
    }
}

}  // namespace dim
