// tvl1_flow: optical flow between pairs of grey images (Zach, Pock, Bischof 2007; Sanchez et al., IPOL 2013).
//
// Minimises, coarse to fine, the integral of |grad u| + |grad v| + smoothness |following(x + u, y + v) - previous(x, y)|.
// At each scale the dual variables p begin at 0; then `warps` times:
//   u <- median(u); I, g <- following and its central gradient at x + u, bicubic (Catmull-Rom); r <- I - g u - previous
//   `iterations` times:
//     rho = r + g u;  s = clamp(-rho / |g|^2, -l, l), l = smoothness tightness  (0 where |g|^2 <= kFlatGradient)
//     u <- u + s g + tightness div p                    backward differences
//     p <- (p + k grad u) / (1 + k |grad u|), k = tau / tightness          forward differences
// g and r are 0 where x + u is outside the image. Edges are replicated by the median and the bicubic taps.
// A level is round(scale_step * side) of the one above, bilinear; there are `scales` of them or as many as have both
// sides of kSmallestSide pixels or more.
//
// Shapes: images [N, H, W], flow [N, 2, H, W], contiguous. Sizes may be 0.
// Numerics: all in the type of the images, positions of a resize in double.
// Cost: an iteration does ~40 operations, two square roots and two divisions for each pixel; what it must move, where
//   every pass went to memory, is 10 planes read and 6 written.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "core/parallel.h"

#if defined(__CUDACC__) || defined(MOTIONOPS_WITH_CUDA) || defined(MOTIONOPS_EMULATED)
#include <cuda_runtime.h>
#define MOTIONOPS_DECLARE_CUDA_LAUNCHERS
#endif

namespace motionops {

struct Tvl1Flow {
  Dtype dtype;            // float32 or float64, of the images and the flow
  const void* previous;   // [N, H, W]
  const void* following;  // [N, H, W]
  void* flow;             // [N, 2, H, W]
  int64_t pairs;          // N
  int64_t height;
  int64_t width;
  double tau;
  double smoothness;
  double tightness;
  int64_t scales;
  double scale_step;
  int64_t warps;
  int64_t iterations;
  int64_t median;  // 1, 3 or 5
};

namespace tvl1 {

inline constexpr int64_t kSmallestSide = 16;
inline constexpr double kFlatGradient = 1.1920928955078125e-7;

struct Level {
  int64_t height, width;
  int64_t pixels() const { return height * width; }
};

// From the images themselves to the coarsest.
inline std::vector<Level> pyramid(const Tvl1Flow& args) {
  std::vector<Level> levels{{args.height, args.width}};
  while (static_cast<int64_t>(levels.size()) < args.scales) {
    const auto scaled = [&](int64_t side) { return std::llrint(static_cast<double>(side) * args.scale_step); };
    const Level next{scaled(levels.back().height), scaled(levels.back().width)};
    if (next.height < kSmallestSide || next.width < kSmallestSide) break;
    levels.push_back(next);
  }
  return levels;
}

}  // namespace tvl1

void tvl1_flow_forward_cpu(const Tvl1Flow& args, const Parallel& parallel);

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
size_t tvl1_flow_workspace_bytes(const Tvl1Flow& args);
cudaError_t tvl1_flow_forward_cuda(const Tvl1Flow& args, void* workspace, cudaStream_t stream);
#endif

}  // namespace motionops
