// torch's tensors as the bindings see them: its stable ABI, by which one binary serves every torch from 2.11 on. Nothing
// of at:: or c10:: is linked to (tests/test_stable_abi.py), and these headers compile in seconds.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace motionops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Sizes = torch::headeronly::IntHeaderOnlyArrayRef;
using Shape = std::vector<int64_t>;

// ---- in words ------------------------------------------------------------------------------------------------------

template <typename... Parts>
std::string text_of(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

inline std::string sizes_text(Sizes sizes) {
  std::ostringstream text;
  text << '[';
  for (size_t i = 0; i < sizes.size(); ++i) text << (i == 0 ? "" : ", ") << sizes[i];
  text << ']';
  return text.str();
}

// The type of a tensor; Undefined for those that the stable ABI does not know (quantised ones).
inline ScalarType type_of(const Tensor& tensor) {
  try {
    return tensor.scalar_type();
  } catch (const std::runtime_error&) {
    return ScalarType::Undefined;
  }
}

// The name that Python gives a type; torch's own C++ names (Long, Float) are not what a user typed.
inline std::string dtype_name(ScalarType type) {
  switch (type) {
    case ScalarType::Bool:
      return "bool";
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Char:
      return "int8";
    case ScalarType::Short:
      return "int16";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::ComplexFloat:
      return "complex64";
    case ScalarType::ComplexDouble:
      return "complex128";
    case ScalarType::Undefined:
      return "another type";
    default:
      return torch::headeronly::toString(type);
  }
}

inline std::string device_text(const Tensor& tensor) {
  const auto device = tensor.device();
  switch (device.type()) {
    case torch::headeronly::DeviceType::CPU:
      return "cpu";
    case torch::headeronly::DeviceType::CUDA:
      return "cuda:" + std::to_string(device.index());
    case torch::headeronly::DeviceType::Meta:
      return "meta";
    default:
      return "another device";
  }
}

// ---- places and types ----------------------------------------------------------------------------------------------

// Whether there is no memory behind the tensor: shapes are checked and nothing is computed.
inline bool is_meta(const Tensor& tensor) {
  int32_t type = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(tensor.get(), &type));
  return type == aoti_torch_device_type_meta();
}

inline bool same_sizes(const Tensor& tensor, Sizes sizes) { return tensor.sizes() == sizes; }

inline Dtype dtype_of(ScalarType type) {
  switch (type) {
    case ScalarType::Double:
      return Dtype::kFloat64;
    case ScalarType::Half:
      return Dtype::kFloat16;
    case ScalarType::BFloat16:
      return Dtype::kBFloat16;
    default:
      return Dtype::kFloat32;
  }
}

inline Dtype dtype_of(const Tensor& tensor) { return dtype_of(tensor.scalar_type()); }

// What sums over values of `type` are accumulated and stored in.
inline ScalarType accumulation_type(ScalarType type) {
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline ScalarType accumulation_type(const Tensor& tensor) { return accumulation_type(tensor.scalar_type()); }

// ---- new tensors ---------------------------------------------------------------------------------------------------

// A tensor [sizes] on the device of `like`, not filled. Straight to the shim: by the dispatcher's name it costs thrice.
inline Tensor empty(Sizes sizes, ScalarType type, const Tensor& like) {
  constexpr size_t kMostAxes = 8;
  int64_t strides[kMostAxes];
  int64_t step = 1;
  for (size_t axis = sizes.size(); axis-- > 0;) {
    strides[axis] = step;
    step *= sizes[axis] < 1 ? 1 : sizes[axis];
  }
  int32_t device_type = 0, device_index = 0;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  AtenTensorHandle handle = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      static_cast<int64_t>(sizes.size()), sizes.data(), strides,
      torch::stable::detail::to<int32_t>(torch::stable::detail::from(type)), device_type, device_index, &handle));
  return Tensor(handle);
}

inline Tensor empty(Sizes sizes, const Tensor& like) { return empty(sizes, like.scalar_type(), like); }

// Scratch memory on the device of `like`, 256-byte aligned on a GPU (and 64-byte on a CPU).
inline Tensor workspace(size_t bytes, const Tensor& like) {
  return empty(Shape{static_cast<int64_t>(bytes)}, ScalarType::Byte, like);
}

inline Tensor dense(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

inline OptionalTensor dense(const OptionalTensor& tensor) {
  return tensor.has_value() ? OptionalTensor(dense(*tensor)) : tensor;
}

// Contiguous and of a type.
inline Tensor dense_as(const Tensor& tensor, ScalarType type) {
  return dense(tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type));
}

// A pointer for a launcher; null for no tensor.
inline const void* data_or_null(const OptionalTensor& tensor) {
  return tensor.has_value() ? tensor->const_data_ptr() : nullptr;
}

template <typename T>
const T* data_of(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T>
const T* data_or_null(const OptionalTensor& tensor) {
  return static_cast<const T*>(data_or_null(tensor));
}

}  // namespace motionops
