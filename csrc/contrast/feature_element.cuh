// The type of features, known when a kernel is launched, as a type that its template takes.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "core/dtype.h"

namespace motionops {

// Calls start(element) with a value of the features' type; float64 is for the CPU.
template <typename Start>
cudaError_t with_element(Dtype dtype, const Start& start) {
  switch (dtype) {
    case Dtype::kBFloat16:
      return start(__nv_bfloat16{});
    case Dtype::kFloat16:
      return start(__half{});
    case Dtype::kFloat32:
      return start(float{});
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace motionops
