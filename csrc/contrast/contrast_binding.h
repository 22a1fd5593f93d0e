// What the bindings of the contrastive operators share.
#pragma once

#include <cmath>

#include "contrast/stored_features.h"
#include "core/torch_binding.h"

namespace motionops {

// A temperature or a radius.
inline void check_positive(const char* op, const char* argument, double value) {
  check_value(std::isfinite(value) && value > 0, op, argument, " must be finite and above 0, got ", value);
}

// The CUDA kernels accumulate in float32: float64 is for the CPU.
inline void check_products(const char* op, const char* argument, const Tensor& query, ScalarType products) {
  if (products == ScalarType::Double && goes_to_cuda(query) && !is_meta(query)) [[unlikely]] {
    check_type(false, op, argument, " must be float32, bfloat16 or float16 on CUDA, got ", dtype_name(products));
  }
}

// The CPU's forward passes also make what the key gradient needs (streaming_softmax_cpu.h); the GPU's backward passes do.
inline bool forward_makes_key_gradient(const Tensor& query) { return !goes_to_cuda(query); }

// The types of a backward pass in memory.
inline StoredTypes stored_types(const Tensor& query, const Tensor& key, const Tensor& grad_loss) {
  StoredTypes types;
  types.query = types.grad_query = dtype_of(query);
  types.key = types.grad_key = dtype_of(key);
  types.grad_loss = dtype_of(grad_loss);
  return types;
}

}  // namespace motionops
