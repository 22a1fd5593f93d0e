// soft_correspondence: which share of a query view's cell lies in each cell of a key view.
//
// Formula: S(b, i, j) = volume(query cell i ∩ key cell j) / volume(query cell i), the product of three one-dimensional
//   overlap ratios (extent.h). Rows sum to 1 where the query view lies inside the key view, to less where it does not.
// Shapes: extents [B, 3, 2]; grids (t, h, w), cells flattened in (t, y, x) order; S [B, Nq, Nk].
// Numerics: float64 from the extents' values, rounded once. A view without volume gives NaN; bindings refuse it where
//   that can be seen without waiting for a device.
// Cost: one write of S; extents are small.
#pragma once

#include <cstdint>

#include "core/parallel.h"
#include "geometry/extent.h"

#if defined(__CUDACC__) || defined(MOTIONOPS_WITH_CUDA) || defined(MOTIONOPS_EMULATED)
#define MOTIONOPS_DECLARE_CUDA_LAUNCHERS
#include <cuda_runtime.h>
#endif

namespace motionops {

struct SoftCorrespondence {
  const double* query_extent;  // [B, 3, 2]
  const double* key_extent;    // [B, 3, 2]
  int64_t batch;               // B
  Grid query_grid;
  Grid key_grid;
  bool wide;     // S is float64, else float32
  void* result;  // [B, Nq, Nk]
};

void soft_correspondence_cpu(const SoftCorrespondence& args, const Parallel& parallel);

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
cudaError_t soft_correspondence_cuda(const SoftCorrespondence& args, cudaStream_t stream);
#endif

}  // namespace motionops
