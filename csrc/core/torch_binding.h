// How a binding (*_torch.cpp) becomes an operator of torch: namespace, definition, dispatch.
//
// A binding is compiled twice. In motionops/_operators.so the ops live in the namespace `motionops`: CPU tensors go to
// the _cpu.cpp launchers, CUDA tensors to those of the .cu files, where the build has them (MOTIONOPS_WITH_CUDA). In the
// tests' library (MOTIONOPS_EMULATED) they live in `motionops_emulated`, and CPU tensors go to the .cu launchers, compiled
// for the host. Each op stands a second time in the namespace `…_meta`, for tensors without memory: there it makes its
// checks and no more, for the fake kernels (motionops/library.py).
//
//   Tensor scale(const Tensor& input, double factor) {
//     check_floating("scale", "input", input);
//     ...
//     MOTIONOPS_DISPATCH("scale", input, scale_cpu(args, parallel), scale_cuda(args, stream));
//     return output;
//   }
//   MOTIONOPS_DEFINE("scale(Tensor input, float factor) -> Tensor", scale);
#pragma once

#include <torch/csrc/stable/library.h>

#include <string>

#include "core/check_binding.h"
#include "core/parallel.h"
#include "core/tensor_binding.h"

#if defined(MOTIONOPS_EMULATED) || defined(MOTIONOPS_WITH_CUDA)
#include "core/cuda_scope_binding.h"
#endif

#if defined(MOTIONOPS_EMULATED)
#define MOTIONOPS_NAMESPACE "motionops_emulated"
#else
#define MOTIONOPS_NAMESPACE "motionops"
#endif

// Runs `cpu_call` (which may name `parallel`) or `cuda_call` (which may name `stream` and returns cudaError_t), as the
// device of `tensor` and the build say; nothing where there is no memory.
#if defined(MOTIONOPS_EMULATED)
#define MOTIONOPS_DISPATCH(op, tensor, cpu_call, cuda_call)          \
  do {                                                               \
    if (::motionops::is_meta(tensor)) break;                         \
    const ::motionops::LaunchScope motionops_scope(op, tensor);      \
    [[maybe_unused]] cudaStream_t stream = motionops_scope.stream(); \
    ::motionops::check_launch(op, cuda_call);                        \
  } while (false)
#elif defined(MOTIONOPS_WITH_CUDA)
#define MOTIONOPS_DISPATCH(op, tensor, cpu_call, cuda_call)            \
  do {                                                                 \
    if ((tensor).is_cuda()) {                                          \
      const ::motionops::LaunchScope motionops_scope(op, tensor);      \
      [[maybe_unused]] cudaStream_t stream = motionops_scope.stream(); \
      ::motionops::check_launch(op, cuda_call);                        \
    } else if (!::motionops::is_meta(tensor)) {                        \
      [[maybe_unused]] const ::motionops::TorchParallel parallel;      \
      cpu_call;                                                        \
    }                                                                  \
  } while (false)
#else
#define MOTIONOPS_DISPATCH(op, tensor, cpu_call, cuda_call)       \
  do {                                                            \
    if ((tensor).is_cuda()) ::motionops::refuse_cuda(op, tensor); \
    if (!::motionops::is_meta(tensor)) {                          \
      [[maybe_unused]] const ::motionops::TorchParallel parallel; \
      cpu_call;                                                   \
    }                                                             \
  } while (false)
#endif

namespace motionops {

// PyTorch's own threads.
class TorchParallel final : public Parallel {
 public:
  int threads() const override { return static_cast<int>(torch::stable::get_num_threads()); }

 protected:
  void run_ranges(int64_t begin, int64_t end, int64_t grain, RangeFunction function, void* context) const override {
    torch::stable::parallel_for(begin, end, grain,
                                [&](int64_t first, int64_t last) { function(context, first, last); });
  }
};

[[noreturn]] inline void refuse_cuda(const char* op, const Tensor& tensor) {
  throw std::runtime_error(text_of(op, ": got a tensor on ", device_text(tensor),
                                   ", but this build of motionops has CPU operators only (motionops.has_cuda() is "
                                   "False); install the CUDA wheel, or rebuild it where nvcc and a CUDA build of torch "
                                   "are"));
}

// The CUDA kernels accumulate in float32: whether `tensor` goes to them.
inline bool goes_to_cuda([[maybe_unused]] const Tensor& tensor) {
#if defined(MOTIONOPS_EMULATED)
  return true;
#else
  return tensor.is_cuda();
#endif
}

// Defines an op and implements it on the CPU, on CUDA and on tensors without memory.
class Definition {
 public:
  Definition(const char* schema, void (*boxed)(StableIValue*, uint64_t, uint64_t), const char* file, uint32_t line)
      : ops_(Kind::FRAGMENT, MOTIONOPS_NAMESPACE, nullptr, file, line),
        checks_(Kind::FRAGMENT, MOTIONOPS_NAMESPACE "_meta", nullptr, file, line),
        cpu_(Kind::IMPL, MOTIONOPS_NAMESPACE, "CPU", file, line),
        cuda_(Kind::IMPL, MOTIONOPS_NAMESPACE, "CUDA", file, line),
        meta_(Kind::IMPL, MOTIONOPS_NAMESPACE "_meta", "Meta", file, line) {
    const std::string whole = schema, name = whole.substr(0, whole.find('('));
    ops_.def(schema);
    checks_.def(schema);
    cpu_.impl(name.c_str(), boxed);
#if !defined(MOTIONOPS_EMULATED)
    cuda_.impl(name.c_str(), boxed);
#endif
    meta_.impl(name.c_str(), boxed);
  }

 private:
  using Library = torch::stable::detail::StableLibrary;
  using Kind = Library::Kind;
  Library ops_, checks_, cpu_, cuda_, meta_;
};

}  // namespace motionops

// At the end of a binding, inside its anonymous namespace.
#define MOTIONOPS_DEFINE(schema, function)                                                                        \
  const ::motionops::Definition C10_CONCATENATE(definition_, __COUNTER__)(schema, TORCH_BOX(&function), __FILE__, \
                                                                          __LINE__)
