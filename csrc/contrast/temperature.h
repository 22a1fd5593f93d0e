// The temperature of a contrastive loss: a number, or one in the memory of a GPU, which kernels read when they run, so that
// the host need not wait for it. It is above 0.
#pragma once

#if defined(__CUDACC__) || defined(MOTIONOPS_EMULATED)
#include <cuda_runtime.h>
#endif

namespace motionops {

struct Temperature {
  Temperature(double number = 1, const float* memory = nullptr)  // NOLINT: a number is one
      : value(number), inverse(static_cast<float>(1 / number)), on_device(memory) {}

  double value;
  float inverse;
  const float* on_device;  // what counts in kernels, where it is there

#if defined(__CUDACC__) || defined(MOTIONOPS_EMULATED)
  __device__ __forceinline__ float read() const {
    return on_device == nullptr ? static_cast<float>(value) : *on_device;
  }
  __device__ __forceinline__ float read_inverse() const { return on_device == nullptr ? inverse : 1.0f / *on_device; }
#endif
};

}  // namespace motionops
