// The extension module motionops._C: what this build is. Loading it registers the ops; it knows none of them by name.
#include <pybind11/pybind11.h>

namespace {

constexpr bool kHasCuda =
#ifdef MOTIONOPS_WITH_CUDA
    true;
#else
    false;
#endif

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.attr("has_cuda") = kHasCuda;
  module.attr("torch_version") = MOTIONOPS_TORCH_VERSION;
  module.attr("compiler") = MOTIONOPS_COMPILER;
  module.attr("cuda_compiler") = MOTIONOPS_CUDA_COMPILER;
  module.attr("cuda_architectures") = MOTIONOPS_CUDA_ARCHITECTURES;
  module.attr("cuda_reason") = MOTIONOPS_CUDA_REASON;
}
