// frame_difference: how every frame of a clip differs from the one before it, as a clip of the same range.
//
// Formula, for a clip x in [0, 1] of T frames:
//   d_t = (x_t - x_{t-1} + 1) / 2        t >= 1
//   d_0 = (x_0 - x_{T-1} + 1) / 2        first = wrap
//   d_0 = d_1                            first = repeat (T = 1: 1/2, as with wrap)
// Gradient, with g_t that of d_t:
//   wrap:   grad_x_t = (g_t - g_{(t+1) mod T}) / 2
//   repeat: the same without the wrap (g_T = 0) after g_1 <- g_0 + g_1, g_0 <- 0
//
// Shapes: [outer, T, inner], which any dense clip is, whatever the order of its axes in memory: `outer` are the axes
//   slower than time, `inner` those faster. The input may have gaps between frames and between clips; the output is
//   contiguous. Sizes may be 0.
// Numerics: 16-bit types are computed in float32 and rounded once; the others in their own type.
// Cost: every element is read once and written once (the first frame of `wrap` waits in registers or cache for the last).
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/parallel.h"

#if defined(__CUDACC__) || defined(MOTIONOPS_WITH_CUDA) || defined(MOTIONOPS_EMULATED)
#include <cuda_runtime.h>
#define MOTIONOPS_DECLARE_CUDA_LAUNCHERS
#endif

namespace motionops {

// Both passes: forward takes the clip to its differences, backward their gradient to the clip's.
struct FrameDifference {
  Dtype dtype;        // of input and output
  const void* input;  // [outer, T, inner], strides (outer_stride, frame_stride, 1)
  void* output;       // [outer, T, inner], contiguous
  int64_t outer;
  int64_t frames;  // T
  int64_t inner;
  int64_t outer_stride;  // elements
  int64_t frame_stride;  // elements
  bool wrap;             // first = wrap, else repeat
};

void frame_difference_forward_cpu(const FrameDifference& args, const Parallel& parallel);
void frame_difference_backward_cpu(const FrameDifference& args, const Parallel& parallel);

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
cudaError_t frame_difference_forward_cuda(const FrameDifference& args, cudaStream_t stream);
cudaError_t frame_difference_backward_cuda(const FrameDifference& args, cudaStream_t stream);
#endif

}  // namespace motionops
