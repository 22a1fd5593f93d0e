// Sums and maxima over lanes.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace motionops {

inline constexpr unsigned kAllLanes = 0xffffffffu;

// Over kLanes lanes, a power of two, side by side: those that hold one row of a tile. Every lane gets the result.
template <int kLanes, typename T>
__device__ __forceinline__ T lanes_sum(T value) {
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}
template <int kLanes>
__device__ __forceinline__ float lanes_max(float value) {
#pragma unroll
  for (int step = 1; step < kLanes; step *= 2) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}

// Over the warp. Every lane gets the result.
template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}

// Over a block of a multiple of 32 threads, in a fixed order. Every thread gets the result. `scratch` holds one value
// per warp and may be used again after the next barrier of the block.
template <typename T>
__device__ __forceinline__ T block_sum(T value, T* scratch) {
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  T total = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) total += scratch[warp];
  return total;
}

// Numbers the threads of a block of kWarps warps that `has`, in their order; every thread gets the count. `per_warp` may be
// written again after the next barrier of the block.
struct Numbered {
  int number, count;
};
template <int kWarps>
__device__ __forceinline__ Numbered block_number(bool has, int (&per_warp)[kWarps]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const uint32_t ballot = __ballot_sync(kAllLanes, has);
  if (lane == 0) per_warp[warp] = __popc(ballot);
  __syncthreads();
  Numbered result{__popc(ballot & ((1u << lane) - 1)), 0};
  for (int other = 0; other < kWarps; ++other) {
    if (other < warp) result.number += per_warp[other];
    result.count += per_warp[other];
  }
  return result;
}

}  // namespace motionops
