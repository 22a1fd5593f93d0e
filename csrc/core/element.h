// Feature types on the device: from a Dtype to the CUDA type, and from that to float.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "core/dtype.h"

namespace motionops {

__device__ __forceinline__ float as_float(float value) { return value; }
__device__ __forceinline__ float as_float(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float as_float(__half value) { return __half2float(value); }

// Calls start(element) with a value of the type; float64 is for the CPU.
template <typename Start>
cudaError_t with_element(Dtype dtype, const Start& start) {
  switch (dtype) {
    case Dtype::kBFloat16: return start(__nv_bfloat16{});
    case Dtype::kFloat16: return start(__half{});
    case Dtype::kFloat32: return start(float{});
    default: return cudaErrorInvalidValue;
  }
}

}  // namespace motionops
