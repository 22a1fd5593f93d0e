// Element types on the device: conversions to and from what sums are computed in, and several elements as one access.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>

namespace motionops {

// What values of type T are computed in.
template <typename T>
using DeviceWide = std::conditional_t<std::is_same_v<T, double>, double, float>;

__device__ __forceinline__ float device_widen(float value) { return value; }
__device__ __forceinline__ double device_widen(double value) { return value; }
__device__ __forceinline__ float device_widen(__half value) { return __half2float(value); }
__device__ __forceinline__ float device_widen(__nv_bfloat16 value) { return __bfloat162float(value); }

// To nearest, ties to even.
template <typename T>
__device__ __forceinline__ T device_narrow(DeviceWide<T> value) {
  if constexpr (std::is_same_v<T, __half>) {
    return __float2half_rn(value);
  } else if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    return __float2bfloat16_rn(value);
  } else {
    return value;
  }
}

// kWidth elements that are loaded or stored at once; their address is a multiple of their size.
template <typename T, int kWidth>
struct alignas(sizeof(T) * kWidth) Pack {
  T values[kWidth];
};

}  // namespace motionops
