// flow_edges: where the speed of a flow field changes (MoDist's motion input).
//
// Formula, for one image of u and v:
//   m  = sqrt(u² + v²)
//   gx = [1 2 1]ᵀ [-1 0 1] * m        3×3 Sobel, not normalised, m replicated beyond its edges
//   gy = [-1 0 1]ᵀ [1 2 1] * m
//   e  = min(sqrt(gx² + gy²), max_value)
// Gradient: that of the formula; 0 through a square root of 0, and where e was above max_value (where they are equal it
//   passes). NaN stays NaN.
//   P = g gx / e, Q = g gy / e, then the Sobels' adjoint. Its edges: P goes on antisymmetric in x and symmetric in y, Q
//   the other way round (a value replicated beyond the edge adds to the one at the edge), which spares special cases.
//
// Shapes: flow [B, T, 2, H, W], edges [B, T, H, W] contiguous. Sizes may be 0.
// Numerics: 16-bit types are computed in float32 and rounded once; the others in their own type. On CUDA the roots of
//   float32 are the unit's (core/root.h).
// Cost: 8 bytes read and 4 written a pixel of float32; some 20 operations and 2 square roots.
#pragma once

#include "core/parallel.h"
#include "flow/flow_images.h"

#if defined(__CUDACC__) || defined(MOTIONOPS_WITH_CUDA) || defined(MOTIONOPS_EMULATED)
#include <cuda_runtime.h>
#define MOTIONOPS_DECLARE_CUDA_LAUNCHERS
#endif

namespace motionops {

struct FlowEdges {
  FlowImages images;
  double max_value;
  void* edges;             // [B, T, H, W], forward only
  const void* grad_edges;  // [B, T, H, W], backward only
  void* grad_flow;         // [B, T, 2, H, W] contiguous, backward only
};

void flow_edges_forward_cpu(const FlowEdges& args, const Parallel& parallel);
void flow_edges_backward_cpu(const FlowEdges& args, const Parallel& parallel);

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
cudaError_t flow_edges_forward_cuda(const FlowEdges& args, cudaStream_t stream);
cudaError_t flow_edges_backward_cuda(const FlowEdges& args, cudaStream_t stream);
#endif

}  // namespace motionops
