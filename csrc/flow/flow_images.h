// A batch of flow fields as the stencils read it: [B, T, 2, H, W], channel 0 = u (pixels to the right), 1 = v (down). Any
// strides but along a row, whose values lie side by side.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace motionops {

struct FlowImages {
  Dtype dtype;
  const void* flow;
  int64_t batch, frames, height, width;
  int64_t batch_stride, frame_stride, channel_stride, row_stride;  // elements
};

// constexpr, so that kernels can call them too (nvcc is told so).
constexpr int64_t image_count(const FlowImages& images) { return images.batch * images.frames; }

// Offset of image n = b · T + t; its v is channel_stride further on.
constexpr int64_t image_offset(const FlowImages& images, int64_t n) {
  return n / images.frames * images.batch_stride + n % images.frames * images.frame_stride;
}

}  // namespace motionops
