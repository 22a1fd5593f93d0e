// What the CUDA stencils on flow fields share: the types, and how many columns a thread may load at once.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "core/device_types.h"
#include "flow/flow_images.h"

namespace motionops {

// Columns of a thread: 16 bytes of float, 8 of the 16-bit types, whose arithmetic is in float too.
template <typename T>
inline constexpr int kWidthOf = sizeof(T) == 8 ? 2 : 4;

// Whether every row of u, v and of the contiguous result may be read `width` elements at a time.
template <typename T>
bool rows_are_aligned(const FlowImages& images, int64_t width, const void* result) {
  const auto fits = [width](int64_t elements) { return elements % width == 0; };
  const auto aligned = [width](const void* pointer) {
    return reinterpret_cast<uintptr_t>(pointer) % (width * sizeof(T)) == 0;
  };
  return fits(images.width) && fits(images.row_stride) && fits(images.channel_stride) && fits(images.frame_stride) &&
         fits(images.batch_stride) && aligned(images.flow) && aligned(result);
}

// function.template operator()<T>() with the device's type, which returns the launch's error.
template <typename Function>
cudaError_t for_device_dtype(Dtype dtype, Function&& function) {
  switch (dtype) {
    case Dtype::kFloat32:
      return function.template operator()<float>();
    case Dtype::kFloat64:
      return function.template operator()<double>();
    case Dtype::kFloat16:
      return function.template operator()<__half>();
    case Dtype::kBFloat16:
      return function.template operator()<__nv_bfloat16>();
  }
  return cudaErrorInvalidValue;
}

}  // namespace motionops
