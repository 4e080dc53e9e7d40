// How libtorch's products on a CPU add their terms.
#include <ATen/Functions.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <cstdint>

#include "bridge.h"

namespace {

/// How many terms an f32 product sums in one go before it adds them to the rest: small terms behind such a piece's end
/// survive, and vanish one by one beside a larger one in the same piece.
std::int64_t find_terms_in_one_go() {
    // As large as a network's products: small ones may be computed by other means.
    constexpr std::int64_t kRows = 64, kOutputs = 64, kTerms = 2048, kStep = 32;
    const c10::NoGradGuard no_gradients;
    const at::Tensor ones = at::ones({kTerms, kOutputs});
    for (std::int64_t first = kStep; first < kTerms; first += kStep) {
        const at::Tensor terms = at::zeros({kRows, kTerms});
        terms.narrow(1, 0, 1).fill_(1.0);
        terms.narrow(1, first, kStep).fill_(std::ldexp(1.0, -25));  // half of what 1 can be told from
        if (terms.mm(ones).min().item<float>() > 1.0F) return first;
    }
    return kTerms;
}

}  // namespace

extern "C" {
/// The terms that an f32 product sums in one go on this processor, found out once; a multiple of 32.
char* dim_terms_in_one_go(std::int64_t* terms) {
    return dim::guarded([&] {
        static const std::int64_t found = find_terms_in_one_go();
        *terms = found;
    });
}
}
