// augment_clips: cut clips out of uint8 videos, change how they look, normalise them.
//
// For clip b, frame t, output pixel (y, x), with the extent's (start, end) of each axis, n its length in pixels and N
// that of the output:
//   position  p = (start + (end - start) (i + 1/2) / N) n - 1/2, clamped to [0, n - 1]
//   crop      bilinear in p, of values / 255; start > end mirrors
//   difference (if asked for)  (x_t - x_{t-1} + 1) / 2, x_{-1} = x_{T-1}
//   jitter    in the clip's order: 0 brightness  clamp(f x), 1 contrast  clamp(f x + (1 - f) mean of the frame's gray),
//             2 saturation  clamp(f x + (1 - f) gray), 3 hue  turned by f in HSV; neutral factors are left out
//   grayscale gray = 0.2989 R + 0.587 G + 0.114 B in all channels
//   blur      separable Gaussian of `blur_kernel` taps, borders reflected; sigma 0 is none
//   output    (x - mean) / std
//
// Numerics: float32 throughout (float64 for a float64 output), rounded once; the mean is summed in float64 on the CPU.
//   Weights of the blur below 1e-9 of the middle one are left out.
//   Values that are not finite do not lead out of the memory: positions are clamped, NaN to 0.
// Cost: the cut-out bytes are read once and the output is written once. CPU: a frame stays in cache between the steps.
//   CUDA: a clip with contrast reads its bytes a second time for the mean, a blurred tile computes its halo again.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/parallel.h"

#if defined(__CUDACC__) || defined(MOTIONOPS_WITH_CUDA) || defined(MOTIONOPS_EMULATED)
#include <cuda_runtime.h>
#define MOTIONOPS_DECLARE_CUDA_LAUNCHERS
#endif

namespace motionops {

// One clip's frames, uint8 [T, H, W, 3] with any strides (in bytes). Eight bytes each: a table of them is int64 [B, 7].
struct AugmentVideo {
  const uint8_t* frames;
  int64_t height, width;
  int64_t stride_t, stride_y, stride_x, stride_c;
};

struct AugmentClips {
  Dtype dtype;                 // of the output; Real below is Wide<dtype>
  const AugmentVideo* videos;  // [B], where the kernel runs; null: all clips are as `common`, `stride_b` apart
  AugmentVideo common;         // clip 0
  int64_t stride_b;            // bytes
  const void* extents;         // Real [B, 3, 2], rows (t, y, x), columns (start, end)
  const void* jitter;          // Real [B, 4]; null: no appearance, and none of the next three
  const int64_t* order;        // [B, 4]
  const bool* grayscale;       // [B]
  const void* blur_sigma;      // Real [B]
  void* output;                // dtype [B, 3, T, height, width]
  int64_t batch, frames;       // B, T
  int64_t height, width;       // of the views
  int64_t blur_kernel;         // odd, < 2 height, < 2 width
  double mean[3], scale[3];    // scale: 1 / std
  bool difference;
};

void augment_clips_forward_cpu(const AugmentClips& args, const Parallel& parallel);

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
size_t augment_clips_workspace_bytes(const AugmentClips& args);
cudaError_t augment_clips_forward_cuda(const AugmentClips& args, void* workspace, cudaStream_t stream);
#endif

}  // namespace motionops
