// The type of features, known when a kernel is launched: as a type that its template takes, and of values that lie in memory
// in another type than that of the products.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "contrast/stored_features.h"
#include "core/device_types.h"
#include "core/dtype.h"

namespace motionops {

// Calls start(element) with a value of the features' type; float64 is for the CPU.
template <typename Start>
cudaError_t with_element(Dtype dtype, const Start& start) {
  switch (dtype) {
    case Dtype::kBFloat16:
      return start(__nv_bfloat16{});
    case Dtype::kFloat16:
      return start(__half{});
    case Dtype::kFloat32:
      return start(float{});
    default:
      return cudaErrorInvalidValue;
  }
}

template <typename Element>
inline constexpr Dtype kDtypeOf = std::is_same_v<Element, __nv_bfloat16> ? Dtype::kBFloat16
                                  : std::is_same_v<Element, __half>      ? Dtype::kFloat16
                                                                         : Dtype::kFloat32;

// Values in memory whose type is told at run time.
struct StoredValues {
  const void* data;
  Dtype dtype;

  __device__ __forceinline__ StoredValues from(int64_t index) const {
    const int64_t size = dtype == Dtype::kFloat64 ? 8 : dtype == Dtype::kFloat32 ? 4 : 2;
    return {static_cast<const unsigned char*>(data) + index * size, dtype};
  }

  __device__ __forceinline__ float operator[](int64_t index) const {
    switch (dtype) {
      case Dtype::kBFloat16:
        return device_widen(static_cast<const __nv_bfloat16*>(data)[index]);
      case Dtype::kFloat16:
        return device_widen(static_cast<const __half*>(data)[index]);
      case Dtype::kFloat64:
        return static_cast<float>(static_cast<const double*>(data)[index]);
      default:
        return static_cast<const float*>(data)[index];
    }
  }

  template <typename Element>
  __device__ __forceinline__ Element rounded(int64_t index) const {
    return device_narrow<Element>((*this)[index]);
  }
  // The value as the products see it.
  template <typename Element>
  __device__ __forceinline__ float in_products(int64_t index) const {
    return device_widen(rounded<Element>(index));
  }
};

// Where values of a type that is told at run time go.
struct StoredResults {
  void* data;  // null: not wanted
  Dtype dtype;

  __device__ __forceinline__ void set(int64_t index, float value) const {
    switch (dtype) {
      case Dtype::kBFloat16:
        static_cast<__nv_bfloat16*>(data)[index] = device_narrow<__nv_bfloat16>(value);
        break;
      case Dtype::kFloat16:
        static_cast<__half*>(data)[index] = device_narrow<__half>(value);
        break;
      case Dtype::kFloat64:
        static_cast<double*>(data)[index] = value;
        break;
      default:
        static_cast<float*>(data)[index] = value;
    }
  }
};

// What a launcher's arguments name, with its type.
inline StoredValues query_values(const void* query, const StoredTypes& types, Dtype products) {
  return {query, types.query.value_or(products)};
}
inline StoredValues key_values(const void* key, const StoredTypes& types, Dtype products) {
  return {key, types.key.value_or(products)};
}

// The gradients that a backward launcher reads and writes.
struct StoredGradients {
  StoredValues loss;
  StoredResults query, key;

  template <typename Backward>
  static StoredGradients of(const Backward& args) {
    return {{args.grad_loss, args.types.grad_loss.value_or(Dtype::kFloat32)},
            {args.grad_query, args.types.grad_query.value_or(Dtype::kFloat32)},
            {args.grad_key, args.types.grad_key.value_or(Dtype::kFloat32)}};
  }
};

// Bytes of one value.
inline int64_t size_of(Dtype dtype) { return dtype == Dtype::kFloat64 ? 8 : dtype == Dtype::kFloat32 ? 4 : 2; }

}  // namespace motionops
