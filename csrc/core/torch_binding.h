// What the bindings (*_torch.cpp) share: namespace, checks, dispatch. The only header that includes torch.
//
// A binding is compiled twice. In motionops/_C the ops live in the namespace `motionops`: CPU tensors go to the _cpu.cpp
// launchers, CUDA tensors to those of the .cu files, where the build has them (MOTIONOPS_WITH_CUDA). In the tests'
// extension (MOTIONOPS_EMULATED) they live in `motionops_emulated`, and CPU tensors go to the .cu launchers, compiled for
// the host.
//
//   at::Tensor scale(const at::Tensor& input, double factor) {
//     check_floating("scale", "input", input);
//     ...
//     MOTIONOPS_DISPATCH("scale", input, scale_cpu(args, parallel), scale_cuda(args, stream));
//     return output;
//   }
//   TORCH_LIBRARY_FRAGMENT(MOTIONOPS_NAMESPACE, m) {
//     motionops::define(m, "scale(Tensor input, float factor) -> Tensor", &scale);
//   }
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>

#include "core/dtype.h"
#include "core/parallel.h"

#if defined(MOTIONOPS_EMULATED)
#define MOTIONOPS_NAMESPACE motionops_emulated
#include <cuda_runtime.h>
#else
#define MOTIONOPS_NAMESPACE motionops
#if defined(MOTIONOPS_WITH_CUDA)
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif
#endif

namespace motionops {

// ---- checks: every message names op, argument, expected, got -------------------------------------------------------

inline std::string shape_text(const at::Tensor& tensor) {
  std::ostringstream text;
  text << '[';
  for (int64_t i = 0; i < tensor.dim(); ++i) text << (i == 0 ? "" : ", ") << tensor.size(i);
  text << ']';
  return text.str();
}

// "queue_infonce: queue must be [K, D=128], got [128, 4096]"; `expected` is streamed together from its parts.
template <typename... Expected>
void check_shape(const char* op, const char* argument, const at::Tensor& tensor, bool right,
                 const Expected&... expected) {
  TORCH_CHECK_VALUE(right, op, ": ", argument, " must be ", c10::str(expected...), ", got ", shape_text(tensor));
}

// The name that Python gives a type; torch's own C++ names (Long, Float) are not what a user typed.
inline std::string dtype_name(at::ScalarType type) {
  switch (type) {
    case at::kBool:
      return "bool";
    case at::kByte:
      return "uint8";
    case at::kChar:
      return "int8";
    case at::kShort:
      return "int16";
    case at::kInt:
      return "int32";
    case at::kLong:
      return "int64";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    case at::kFloat:
      return "float32";
    case at::kDouble:
      return "float64";
    case at::kComplexFloat:
      return "complex64";
    case at::kComplexDouble:
      return "complex128";
    default:
      return c10::toString(type);
  }
}

inline bool is_floating(const at::Tensor& tensor) {
  const auto type = tensor.scalar_type();
  return type == at::kFloat || type == at::kDouble || type == at::kHalf || type == at::kBFloat16;
}

inline void check_floating(const char* op, const char* argument, const at::Tensor& tensor) {
  TORCH_CHECK_TYPE(is_floating(tensor), op, ": ", argument, " must be float32, float64, bfloat16 or float16, got ",
                   dtype_name(tensor.scalar_type()));
}

inline void check_dtype(const char* op, const char* argument, const at::Tensor& tensor, at::ScalarType expected) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == expected, op, ": ", argument, " must be ", dtype_name(expected), ", got ",
                   dtype_name(tensor.scalar_type()));
}

inline void check_same_dtype(const char* op, const char* argument, const at::Tensor& tensor, const char* other_argument,
                             const at::Tensor& other) {
  TORCH_CHECK_TYPE(tensor.scalar_type() == other.scalar_type(), op, ": ", argument, " must be ",
                   dtype_name(other.scalar_type()), " as ", other_argument, " is, got ",
                   dtype_name(tensor.scalar_type()));
}

inline void check_same_device(const char* op, const char* argument, const at::Tensor& tensor,
                              const char* other_argument, const at::Tensor& other) {
  TORCH_CHECK_VALUE(tensor.device() == other.device(), op, ": ", argument, " must be on ", other.device(), " as ",
                    other_argument, " is, got ", tensor.device());
}

// ---- from torch to core --------------------------------------------------------------------------------------------

inline Dtype dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kDouble:
      return Dtype::kFloat64;
    case at::kHalf:
      return Dtype::kFloat16;
    case at::kBFloat16:
      return Dtype::kBFloat16;
    default:
      return Dtype::kFloat32;
  }
}

// What sums over `tensor` are accumulated and stored in.
inline at::ScalarType accumulation_type(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// A pointer for a launcher; null for no tensor.
inline const void* data_or_null(const std::optional<at::Tensor>& tensor) {
  return tensor.has_value() && tensor->defined() ? tensor->const_data_ptr() : nullptr;
}

// PyTorch's own threads.
class TorchParallel final : public Parallel {
 public:
  int threads() const override { return at::get_num_threads(); }

 protected:
  void run_ranges(int64_t begin, int64_t end, int64_t grain, RangeFunction function, void* context) const override {
    at::parallel_for(begin, end, grain, [&](int64_t first, int64_t last) { function(context, first, last); });
  }
};

// Scratch memory on the device of `like`, 256-byte aligned on a GPU (and 64-byte on a CPU).
inline at::Tensor workspace(size_t bytes, const at::Tensor& like) {
  return at::empty({static_cast<int64_t>(bytes)}, like.options().dtype(at::kByte));
}

// ---- dispatch ------------------------------------------------------------------------------------------------------

#if defined(MOTIONOPS_EMULATED)

// The device and stream on which CUDA launchers run while it lives.
struct LaunchScope {
  explicit LaunchScope(const at::Tensor&) {}
  cudaStream_t stream() const { return nullptr; }
};

#elif defined(MOTIONOPS_WITH_CUDA)

class LaunchScope {
 public:
  explicit LaunchScope(const at::Tensor& tensor) : guard_(tensor.device()) {}
  cudaStream_t stream() const { return c10::cuda::getCurrentCUDAStream(); }

 private:
  c10::cuda::CUDAGuard guard_;
};

#endif

#if defined(MOTIONOPS_EMULATED) || defined(MOTIONOPS_WITH_CUDA)

inline void check_launch(const char* op, cudaError_t error) {
  TORCH_CHECK(error == cudaSuccess, op, ": CUDA launch failed: ", cudaGetErrorString(error));
}

#endif

// Runs `cpu_call` (which may name `parallel`) or `cuda_call` (which may name `stream` and returns cudaError_t), as the
// device of `tensor` and the build say.
#if defined(MOTIONOPS_EMULATED)
#define MOTIONOPS_DISPATCH(op, tensor, cpu_call, cuda_call)          \
  do {                                                               \
    const ::motionops::LaunchScope motionops_scope(tensor);          \
    [[maybe_unused]] cudaStream_t stream = motionops_scope.stream(); \
    ::motionops::check_launch(op, cuda_call);                        \
  } while (false)
#elif defined(MOTIONOPS_WITH_CUDA)
#define MOTIONOPS_DISPATCH(op, tensor, cpu_call, cuda_call)            \
  do {                                                                 \
    if ((tensor).is_cuda()) {                                          \
      const ::motionops::LaunchScope motionops_scope(tensor);          \
      [[maybe_unused]] cudaStream_t stream = motionops_scope.stream(); \
      ::motionops::check_launch(op, cuda_call);                        \
    } else {                                                           \
      [[maybe_unused]] const ::motionops::TorchParallel parallel;      \
      cpu_call;                                                        \
    }                                                                  \
  } while (false)
#else
#define MOTIONOPS_DISPATCH(op, tensor, cpu_call, cuda_call)                                   \
  do {                                                                                        \
    TORCH_CHECK(!(tensor).is_cuda(), op, ": got a tensor on ", (tensor).device(),             \
                ", but this build of motionops has CPU operators only (motionops.has_cuda() " \
                "is False); rebuild it where nvcc and a CUDA build of torch are");            \
    [[maybe_unused]] const ::motionops::TorchParallel parallel;                               \
    cpu_call;                                                                                 \
  } while (false)
#endif

// Defines an op and implements it, on the CPU and on CUDA.
template <typename Function>
void define(torch::Library& library, const std::string& schema, Function* function) {
  const std::string name = schema.substr(0, schema.find('('));
  library.def(schema.c_str(), {at::Tag::pt2_compliant_tag});
  library.impl(name.c_str(), torch::dispatch(c10::DispatchKey::CPU, function));
#if !defined(MOTIONOPS_EMULATED)
  library.impl(name.c_str(), torch::dispatch(c10::DispatchKey::CUDA, function));
#endif
}

}  // namespace motionops
