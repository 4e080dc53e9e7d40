// Sums over the lanes of a warp, in one fixed order.
#pragma once

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

/// The sum over kLanes neighbouring lanes, in each of them.
template <int kLanes>
__device__ float sum_over_neighbours(float value) {
#pragma unroll
    for (int offset = 1; offset < kLanes; offset *= 2) value += __shfl_xor_sync(kAllLanes, value, offset);
    return value;
}

/// Sums each of kCount values over the lanes of a warp that have the same lane number modulo kLanes, and leaves the
/// sums spread over those lanes.
///
/// In every round two lanes swap halves of what they still hold: 31 shuffles sum 32 values where a butterfly of each
/// would take 160. Afterwards `values[0..kept]` of a lane are the sums number `first(lane)` and following.
template <int kCount, int kLanes>
struct WarpSums {
    static constexpr int kHolders = kWarp / kLanes;
    static constexpr int kKept = kCount > kHolders ? kCount / kHolders : 1;

    __device__ static int first(int lane) { return lane / kLanes * kCount / kHolders; }

    __device__ static void reduce(float (&values)[kCount], int lane) { round<kCount, kWarp / 2>(values, lane); }

   private:
    template <int kHeld, int kOffset>
    __device__ static void round(float (&values)[kCount], int lane) {
        if constexpr (kOffset >= kLanes) {
            if constexpr (kHeld > 1) {
                constexpr int kHalf = kHeld / 2;
                const bool upper = lane & kOffset;
#pragma unroll
                for (int i = 0; i < kHalf; ++i) {
                    const float kept = upper ? values[i + kHalf] : values[i];
                    const float given = upper ? values[i] : values[i + kHalf];
                    values[i] = kept + __shfl_xor_sync(kAllLanes, given, kOffset);
                }
                round<kHalf, kOffset / 2>(values, lane);
            } else {
                values[0] += __shfl_xor_sync(kAllLanes, values[0], kOffset);
                round<1, kOffset / 2>(values, lane);
            }
        }
    }
};
