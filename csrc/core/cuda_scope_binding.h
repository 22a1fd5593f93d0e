// The device and the stream on which a binding's CUDA launchers run, and what a failed launch says.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>

#include "core/tensor_binding.h"

#if !defined(MOTIONOPS_EMULATED)
#include <dlfcn.h>
#endif

namespace motionops {

#if defined(MOTIONOPS_EMULATED)

inline void check_launch(const char* op, cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(text_of(op, ": CUDA launch failed: ", cudaGetErrorString(error)));
}

struct LaunchScope {
  LaunchScope(const char*, const Tensor&) {}
  cudaStream_t stream() const { return nullptr; }
};

#else

[[noreturn]] inline void refuse_launch(const char* op, cudaError_t error) {
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0;
    cudaDriverGetVersion(&driver);
    throw std::runtime_error(text_of(op, ": this build of motionops needs a driver for CUDA ", CUDART_VERSION / 1000,
                                     " or newer, this machine's is for CUDA ", driver / 1000, ".", driver % 1000 / 10,
                                     "; update the driver, or build motionops with this machine's CUDA"));
  }
  if (error == cudaErrorNoKernelImageForDevice) {
    throw std::runtime_error(text_of(op,
                                     ": this build of motionops has no code for this GPU; `python -m motionops.info` ",
                                     "prints its architectures, TORCH_CUDA_ARCH_LIST chooses them when it is built"));
  }
  throw std::runtime_error(text_of(op, ": CUDA launch failed: ", cudaGetErrorString(error)));
}

inline void check_launch(const char* op, cudaError_t error) {
  if (error != cudaSuccess) [[unlikely]]
    refuse_launch(op, error);
}

// torch's current stream of a device. The function is of torch's CUDA library: it is looked up when it is first asked
// for, so that a build with CUDA operators also loads beside a torch without CUDA.
inline cudaStream_t current_stream(const char* op, int32_t device) {
  using Function = AOTITorchError (*)(int32_t device, void** stream);
  static const auto function = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    void* found = library == nullptr ? nullptr : dlsym(library, "aoti_torch_get_current_cuda_stream");
    return reinterpret_cast<Function>(found);
  }();
  if (function == nullptr) [[unlikely]] {
    throw std::runtime_error(text_of(op, ": got a tensor on CUDA, but libtorch_cuda.so with its stream is not loaded"));
  }
  void* stream = nullptr;
  STABLE_TORCH_ERROR_CODE_CHECK(function(device, &stream));
  return static_cast<cudaStream_t>(stream);
}

// The device and stream on which CUDA launchers run while it lives. The library has a CUDA runtime of its own, linked
// statically: beside torch's guard it is told the device too.
class LaunchScope {
 public:
  LaunchScope(const char* op, const Tensor& tensor)
      : guard_(tensor.get_device_index()), stream_(current_stream(op, tensor.get_device_index())) {
    check_launch(op, cudaSetDevice(tensor.get_device_index()));
  }
  cudaStream_t stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

#endif

}  // namespace motionops
