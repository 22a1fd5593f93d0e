// What the bindings of the contrastive operators share.
#pragma once

#include <cmath>
#include <optional>

#include "core/torch_binding.h"

namespace motionops {

// A temperature or a radius.
inline void check_positive(const char* op, const char* argument, double value) {
  TORCH_CHECK_VALUE(std::isfinite(value) && value > 0, op, ": ", argument, " must be finite and above 0, got ", value);
}

// The CUDA kernels accumulate in float32: float64 is for the CPU.
inline void check_products(const char* op, const char* argument, [[maybe_unused]] const at::Tensor& query,
                           at::ScalarType products) {
#if defined(MOTIONOPS_EMULATED)
  constexpr bool cuda = true;
#else
  const bool cuda = query.is_cuda();
#endif
  TORCH_CHECK_TYPE(!cuda || products != at::kDouble, op, ": ", argument,
                   " must be float32, bfloat16 or float16 on CUDA, got ", dtype_name(products));
}

// The CPU's forward passes also make what the key gradient needs (streaming_softmax_cpu.h); the GPU's backward passes do.
inline bool forward_makes_key_gradient([[maybe_unused]] const at::Tensor& query) {
#if defined(MOTIONOPS_EMULATED)
  return false;
#else
  return query.is_cpu();
#endif
}

// Contiguous, and rounded to the type in which products are taken.
inline at::Tensor for_products(const at::Tensor& features, at::ScalarType products) {
  return features.to(products).contiguous();
}

inline std::optional<at::Tensor> contiguous(const std::optional<at::Tensor>& tensor) {
  return tensor.has_value() ? std::optional<at::Tensor>(tensor->contiguous()) : tensor;
}

}  // namespace motionops
