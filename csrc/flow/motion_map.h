// motion_map: how strongly a flow field changes from place to place (MCL Eq. 1): motion boundaries, without the
// camera's pan.
//
// Formula, for one image of u and v, f_x = (f(x+1) - f(x-1)) / 2 with f replicated beyond its edges, likewise f_y:
//   m = sqrt(u_x² + u_y² + v_x² + v_y²)
// With a grid (t, h, w), the mean of m over t×h×w equal blocks of [T, H, W] instead of m.
// Gradient: that of the formula, 0 through a square root of 0. With g the gradient of m (of its block's mean over the
//   block's size), grad_u(x) = (P(x-1) - P(x+1)) / 2 + the same along y, with P = g u_x / m; beyond the edges P goes on
//   antisymmetric (P(-1) = -P(0)).
//
// Shapes: flow [B, T, 2, H, W]; map [B, T, H, W] or [B, t, h, w], contiguous. Sizes may be 0, blocks may not.
// Numerics: 16-bit types are computed in float32 and rounded once; the others in their own type. On CUDA the roots of
//   float32 are the unit's (core/root.h). Means are summed in float64 on the CPU, on CUDA in float32 or float64:
//   strips, then their sums, in an order that the sizes and the alignment of rows decide.
// Cost: 8 bytes read a pixel of float32, 4 written (none with a grid); a dozen operations and a square root.
#pragma once

#include "core/parallel.h"
#include "flow/flow_images.h"

#if defined(__CUDACC__) || defined(MOTIONOPS_WITH_CUDA) || defined(MOTIONOPS_EMULATED)
#include <cuda_runtime.h>
#define MOTIONOPS_DECLARE_CUDA_LAUNCHERS
#endif

namespace motionops {

struct MotionMap {
  FlowImages images;
  // Block sizes; 1, 1, 1 without a grid.
  int64_t block_frames, block_rows, block_columns;
  void* map;             // [B, T / block_frames, H / block_rows, W / block_columns], forward only
  const void* grad_map;  // the same, backward only
  void* grad_flow;       // [B, T, 2, H, W] contiguous, backward only

  bool has_grid() const { return block_frames * block_rows * block_columns > 1; }
};

void motion_map_forward_cpu(const MotionMap& args, const Parallel& parallel);
void motion_map_backward_cpu(const MotionMap& args, const Parallel& parallel);

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
cudaError_t motion_map_forward_cuda(const MotionMap& args, cudaStream_t stream);
cudaError_t motion_map_backward_cuda(const MotionMap& args, cudaStream_t stream);
#endif

}  // namespace motionops
