// Element types on the device: conversions to and from what sums are computed in, and several elements as one access.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstring>
#include <type_traits>

#include "core/dtype.h"

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

// One load of memory that the kernel does not write, so that the compiler may move it before stores.
template <typename T, int kWidth>
__device__ __forceinline__ Pack<T, kWidth> load_pack(const T* from) {
  constexpr size_t kBytes = sizeof(T) * kWidth;
  static_assert(kBytes == 2 || kBytes == 4 || kBytes == 8 || kBytes == 16);
  using Small = std::conditional_t<kBytes == 2, uint16_t, uint32_t>;
  using Word = std::conditional_t<kBytes <= 4, Small, std::conditional_t<kBytes == 8, uint2, uint4>>;
  const Word word = __ldg(reinterpret_cast<const Word*>(from));
  Pack<T, kWidth> pack;
  memcpy(&pack, &word, kBytes);
  return pack;
}

// function.template operator()<T>() with the device's type, which returns the launch's error.
template <typename Function>
cudaError_t for_device_dtype(Dtype dtype, Function&& function) {
  switch (dtype) {
    case Dtype::kFloat32:
      return function.template operator()<float>();
    case Dtype::kFloat64:
      return function.template operator()<double>();
    case Dtype::kFloat16:
      return function.template operator()<__half>();
    case Dtype::kBFloat16:
      return function.template operator()<__nv_bfloat16>();
  }
  return cudaErrorInvalidValue;
}

}  // namespace motionops
