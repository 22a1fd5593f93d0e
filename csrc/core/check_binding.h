// Checks of the bindings' arguments: every message names op, argument, expected, got.
//
// torch's stable ABI has no errors of its own. What is thrown here arrives in Python as ValueError (torch's bindings
// translate std::invalid_argument so) or, for a type, as a RuntimeError whose text says "TypeError: ", which
// motionops/library.py makes one.
#pragma once

#include <stdexcept>
#include <string>

#include "core/tensor_binding.h"

namespace motionops {

template <typename... Parts>
void check_value(bool right, const char* op, const Parts&... parts) {
  if (!right) [[unlikely]]
    throw std::invalid_argument(text_of(op, ": ", parts...));
}

template <typename... Parts>
void check_type(bool right, const char* op, const Parts&... parts) {
  if (!right) [[unlikely]]
    throw std::runtime_error(text_of("TypeError: ", op, ": ", parts...));
}

// "queue_infonce: queue must be [K, D=128], got [128, 4096]"; `expected` is streamed together from its parts.
template <typename... Expected>
void check_shape(const char* op, const char* argument, const Tensor& tensor, bool right, const Expected&... expected) {
  if (!right) [[unlikely]] {
    check_value(false, op, argument, " must be ", text_of(expected...), ", got ", sizes_text(tensor.sizes()));
  }
}

inline bool is_floating(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::Half ||
         type == ScalarType::BFloat16;
}

inline void check_floating(const char* op, const char* argument, ScalarType type) {
  if (!is_floating(type)) [[unlikely]] {
    check_type(false, op, argument, " must be float32, float64, bfloat16 or float16, got ", dtype_name(type));
  }
}

inline void check_floating(const char* op, const char* argument, const Tensor& tensor) {
  check_floating(op, argument, type_of(tensor));
}

inline void check_dtype(const char* op, const char* argument, const Tensor& tensor, ScalarType expected) {
  const ScalarType type = type_of(tensor);
  if (type != expected) [[unlikely]] {
    check_type(false, op, argument, " must be ", dtype_name(expected), ", got ", dtype_name(type));
  }
}

inline void check_same_dtype(const char* op, const char* argument, const Tensor& tensor, const char* other_argument,
                             const Tensor& other) {
  const ScalarType type = type_of(tensor), expected = type_of(other);
  if (type != expected) [[unlikely]] {
    check_type(false, op, argument, " must be ", dtype_name(expected), " as ", other_argument, " is, got ",
               dtype_name(type));
  }
}

inline void check_same_device(const char* op, const char* argument, const Tensor& tensor, const char* other_argument,
                              const Tensor& other) {
  if (tensor.device() != other.device()) [[unlikely]] {
    check_value(false, op, argument, " must be on ", device_text(other), " as ", other_argument, " is, got ",
                device_text(tensor));
  }
}

// A tensor that an operator made for its backward pass: `sizes`, of `type`, on the device of `query`.
inline void check_saved(const char* op, const char* argument, const Tensor& tensor, Sizes sizes, ScalarType type,
                        const Tensor& query) {
  check_shape(op, argument, tensor, tensor.sizes() == sizes, sizes_text(sizes));
  check_dtype(op, argument, tensor, type);
  check_same_device(op, argument, tensor, "query", query);
}

// The gradient of a scalar loss.
inline void check_grad_loss(const char* op, const Tensor& grad_loss, const Tensor& query) {
  check_floating(op, "grad_loss", grad_loss);
  check_shape(op, "grad_loss", grad_loss, grad_loss.dim() == 0, "a scalar, []");
  check_same_device(op, "grad_loss", grad_loss, "query", query);
}

}  // namespace motionops
