// region_contrast: every cell of the local clips is contrasted with all cells of all videos' key maps; its target is the
// distribution of its volume over the cells of its own video's key map (Controllable Augmentations, L_rc).
//
// Formula, for row i = (b, v, cell) and column j (τ = temperature):
//   logit_ij = q_i · k_j / τ          LSE_i = log Σ_{all j} e^{logit_ij}          p_ij = e^{logit_ij − LSE_i}
//   S_ij     = share of cell i's volume that lies in cell j of video b (geometry/extent.h), 0 for other videos
//   W_i      = Σ_j S_ij, 1 inside the key view, less outside           T_i = Σ_j S_ij k_j
//   loss     = 1/R Σ_i Σ_j S_ij (LSE_i − logit_ij) = 1/R Σ_i (W_i LSE_i − q_i · T_i / τ)          0 where R = 0
// Gradients, with g the gradient of the loss:
//   D_i          = W_i Σ_j p_ij k_j − T_i                                       the expected difference
//   grad_query_i = g / (R τ) D_i
//   grad_key_j   = g / (R τ) Σ_i (W_i p_ij − S_ij) q_i                          a transposed pass; p from the saved LSE
// S is a product of three overlaps, one per axis: a table for each (b, v) of t t' + h h' + w w' numbers stands for it.
// Logits and S are linear in the keys, so targets enter outside of the main loop, within a video only.
//
// Shapes: query [B, V, t, h, w, D]; key [M, t', h', w', D], M >= B; extents [B, V, 3, 2] and [M, 3, 2]; contiguous,
//   features rounded to `dtype` as they are read. Key b < B is of the queries' video b, further ones are of others. B and V
//   may be 0.
// Numerics: products of `dtype` values, accumulated in float32 (float64 for float64: "the accumulation type").
// Cost: with R rows and N columns 2 R N D operations for the loss, as many again for D, and as many for Q; a transposed pass
//   takes 4 R N D.
#pragma once

#include <cstddef>
#include <cstdint>

#include "contrast/stored_features.h"
#include "contrast/temperature.h"
#include "core/dtype.h"
#include "core/parallel.h"
#include "geometry/extent.h"

#if defined(__CUDACC__) || defined(MOTIONOPS_WITH_CUDA) || defined(MOTIONOPS_EMULATED)
#define MOTIONOPS_DECLARE_CUDA_LAUNCHERS
#include <cuda_runtime.h>
#endif

namespace motionops {

struct RegionPairs {
  const double* query_extent;  // [B, V, 3, 2]
  const double* key_extent;    // [M, 3, 2]
  int64_t batch;               // B
  int64_t key_batch;           // M
  int64_t views;               // V
  Grid query_grid;             // t, h, w
  Grid key_grid;               // t', h', w'

  MOTIONOPS_EXTENT_FUNCTION int64_t rows_of_video() const { return views * query_grid.count(); }
  MOTIONOPS_EXTENT_FUNCTION int64_t rows() const { return batch * rows_of_video(); }
  MOTIONOPS_EXTENT_FUNCTION int64_t columns() const { return key_batch * key_grid.count(); }
  // Where the overlaps of an axis begin in the table of one view, [cells of the query][cells of the key].
  MOTIONOPS_EXTENT_FUNCTION int64_t table_begin(int axis) const {
    int64_t begin = 0;
    for (int before = 0; before < axis; ++before) begin += query_grid.cells[before] * key_grid.cells[before];
    return begin;
  }
  MOTIONOPS_EXTENT_FUNCTION int64_t table_size() const { return table_begin(kExtentAxes); }
  // Element `place` of the table of view `view` = b V + v.
  MOTIONOPS_EXTENT_FUNCTION double table_value(int64_t view, int64_t place) const {
    int axis = 0;
    while (axis + 1 < kExtentAxes && place >= table_begin(axis + 1)) ++axis;
    const int64_t offset = place - table_begin(axis);
    return axis_overlap(query_extent + view * 6, query_grid, offset / key_grid.cells[axis],
                        key_extent + view / views * 6, key_grid, offset % key_grid.cells[axis], axis);
  }
  // Overlaps of query cell `cell` with the key's cells along an axis.
  template <typename T>
  MOTIONOPS_EXTENT_FUNCTION const T* overlaps(const T* table, int axis, int64_t cell) const {
    return table + table_begin(axis) + query_grid.along(axis, cell) * key_grid.cells[axis];
  }
};

struct RegionContrastForward {
  Dtype dtype;        // of the products
  const void* query;  // [B, V, t, h, w, D]
  const void* key;    // [M, t', h', w', D]
  RegionPairs pairs;
  int64_t dim;                // D
  Temperature temperature;    // > 0
  bool tf32;                  // CUDA: float32 products may be taken in TF32; the CPU ignores it
  void* loss;                 // [] accumulation
  void* log_sum_exp;          // [R] accumulation
  void* weight;               // [R] accumulation, W
  void* expected_difference;  // [R, D] accumulation, D_i; null where no query gradient is wanted
  void* expected_query;       // [N, D] accumulation, Q_j; null where no key gradient is wanted; CPU only
  StoredTypes types = {};     // in memory, where they are others
};

struct RegionContrastBackward {
  Dtype dtype;        // of the products
  const void* query;  // [R, D]
  const void* key;    // [N, D]
  RegionPairs pairs;
  int64_t dim;
  Temperature temperature;
  bool tf32;
  const void* grad_loss;            // []
  const void* log_sum_exp;          // [R] accumulation
  const void* weight;               // [R] accumulation
  const void* expected_difference;  // [R, D] accumulation; may be null where grad_query is
  const void* expected_query;       // [N, D] accumulation; CPU only, may be null where grad_key is
  void* grad_query;                 // [R, D], or null: not wanted
  void* grad_key;                   // [N, D], or null: not wanted
  StoredTypes types = {};           // in memory, where they are others
};

void region_contrast_forward_cpu(const RegionContrastForward& args, const Parallel& parallel);
void region_contrast_backward_cpu(const RegionContrastBackward& args, const Parallel& parallel);

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
// Bytes of scratch that the launchers need for these sizes on the current device (0: none). The workspace is 256-byte
// aligned and need not be cleared. All other pointers are aligned to their element only.
size_t region_contrast_workspace_bytes(const RegionContrastForward& args);
size_t region_contrast_backward_workspace_bytes(const RegionContrastBackward& args);
cudaError_t region_contrast_forward_cuda(const RegionContrastForward& args, void* workspace, cudaStream_t stream);
cudaError_t region_contrast_backward_cuda(const RegionContrastBackward& args, void* workspace, cudaStream_t stream);
#endif

}  // namespace motionops
