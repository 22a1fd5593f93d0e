// What the bindings of the contrastive operators share.
#pragma once

#include <cmath>
#include <initializer_list>

#include "contrast/stored_features.h"
#include "contrast/temperature.h"
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

// The video of each row, where the caller knows it.
struct RowIds {
  const char* argument;
  const char* rows;  // the axis, in a message
  const OptionalTensor& ids;
  const Tensor& features;  // [rows, D]
};

// Ids of the queries and of what they are compared with: both or neither.
inline void check_ids(const char* op, const RowIds& query, const RowIds& others) {
  check_value(query.ids.has_value() == others.ids.has_value(), op, query.argument, " and ", others.argument,
              " must be given together, got only ", query.ids.has_value() ? query.argument : others.argument);
  if (!query.ids.has_value()) return;
  for (const RowIds& given : {query, others}) {
    const Tensor& ids = *given.ids;
    const int64_t rows = given.features.size(0);
    check_dtype(op, given.argument, ids, ScalarType::Long);
    check_shape(op, given.argument, ids, ids.dim() == 1 && ids.size(0) == rows, "[", given.rows, "=", rows, "]");
    check_same_device(op, given.argument, ids, "query", query.features);
  }
}

// The CPU's forward passes also make what the key gradient needs (streaming_softmax_cpu.h); the GPU's backward passes do.
inline bool forward_makes_key_gradient(const Tensor& query) { return !goes_to_cuda(query); }

// The temperature of a call: a number, or in its place a scalar tensor. One on a GPU stays there, any other is read.
class GivenTemperature {
 public:
  GivenTemperature(const char* op, const OptionalTensor& tensor, double number, const Tensor& query) {
    if (tensor.has_value()) {
      check_floating(op, "temperature", *tensor);
      check_shape(op, "temperature", *tensor, tensor->dim() == 0, "a number or a scalar, []");
      if (!tensor->is_cpu()) check_same_device(op, "temperature", *tensor, "query", query);
      if (is_meta(*tensor)) return;
      if (stays_on_device(*tensor)) {
        on_device_ = dense_as(*tensor, ScalarType::Float);
        temperature_.on_device = data_of<float>(on_device_);
        return;
      }
      number = *data_of<double>(dense_as(*tensor, ScalarType::Double));
    }
    check_positive(op, "temperature", number);
    temperature_ = number;
  }
  GivenTemperature(const GivenTemperature&) = delete;
  GivenTemperature& operator=(const GivenTemperature&) = delete;

  const Temperature& operator*() const { return temperature_; }

 private:
  // In the tests' library kernels read the host's memory.
  static bool stays_on_device(const Tensor& tensor) { return goes_to_cuda(tensor); }

  Tensor on_device_;  // lives as long as the launcher runs
  Temperature temperature_;
};

// The types of a backward pass in memory.
inline StoredTypes stored_types(const Tensor& query, const Tensor& key, const Tensor& grad_loss) {
  StoredTypes types;
  types.query = types.grad_query = dtype_of(query);
  types.key = types.grad_key = dtype_of(key);
  types.grad_loss = dtype_of(grad_loss);
  return types;
}

}  // namespace motionops
