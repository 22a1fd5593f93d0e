// pixel_contrast: every foreground pixel of a query map is contrasted with all pixels of all key maps; its positives are
// the near foreground pixels of the same frame of its own sample (FIMA, L_Pix).
//
// Formula. Query pixel i = (b, t, y, x), columns n = all M·T·H·W key pixels and the K negatives, τ = temperature:
//   P_i    = { n = (b, t, y', x') : distance(i, n) < radius, query_mask[b, t, y, x] and key_mask[b, t, y', x'] }
//   l_i    = log Σ_{all n} e^{q_i · k_n / τ} − log Σ_{n in P_i} e^{q_i · k_n / τ}       for rows with P_i not empty
//   loss   = 1/S Σ_b 1/N_b Σ_{i in sample b, P_i not empty} l_i,     N_b = number of such rows of sample b, S = number of
//            samples with N_b > 0; exactly 0 where S = 0
//   weight_i = 1 / (S N_b), and 0 for rows with no positive
// Placement, in float64. Extents are [B, 3, 2] and [M, 3, 2]: rows (t, y, x), columns (start, end), fractions of the source frame; only
// y and x are used; start > end is a mirrored view and runs backwards.
//   centre_y(y) = start_y + (y + 0.5) (end_y − start_y) / H         (likewise x)
//   diagonal    = sqrt(((end_y − start_y) / H)^2 + ((end_x − start_x) / W)^2)        of one cell of a view
//   distance    = sqrt(dy^2 + dx^2) / max(diagonal of the query view, diagonal of the key view)
// Gradients, with g the gradient of the loss, p and r the softmax over all columns and over the positives:
//   D_i          = Σ_n p_in k_n − Σ_{n in P_i} r_in k_n                                  the expected difference
//   grad_query_i = g weight_i / τ · D_i
//   grad_key_n   = g / τ Σ_i weight_i (p_in − [n in P_i] r_in) q_i
//
// Shapes: query [B, T, H, W, D]; key [M, T, H, W, D], M >= B: those of sample b < B are the key view of query sample b,
//   further ones are negatives; negatives [K, D]; masks [B, H, W] for all frames, or [B, T, H, W]; all contiguous, features
//   rounded to `dtype`, that of the negatives, as they are read. Any size but D may be 0.
// Numerics: products of `dtype` values, accumulated in float32 (float64 for float64: "the accumulation type"). NaN and
//   infinity of counted rows and of all columns give what log_softmax of the dense logits gives; rows with no positive
//   are not computed at all, and do not touch the result.
// Cost: with R rows that have positives and N = M·T·H·W + K columns: 2 R N D operations for the loss, as many again for
//   D_i, 4 R M·T·H·W D for the key gradient. Extra memory does not depend on N.
#pragma once

#include <cstddef>
#include <cstdint>

#include "contrast/stored_features.h"
#include "contrast/temperature.h"
#include "core/dtype.h"
#include "core/parallel.h"

#if defined(__CUDACC__) || defined(MOTIONOPS_WITH_CUDA) || defined(MOTIONOPS_EMULATED)
#define MOTIONOPS_DECLARE_CUDA_LAUNCHERS
#include <cuda_runtime.h>
#endif

namespace motionops {

// What says which pairs of pixels are positives; shared by both passes.
struct PixelContrastPairs {
  const double* query_extent;  // [B, 3, 2]
  const double* key_extent;    // [M, 3, 2]
  const bool* query_mask;      // [B, H, W], or [B, T, H, W] where they are of frames; or null: all true
  const bool* key_mask;        // the same
  int64_t batch;               // B
  int64_t key_batch;           // M
  int64_t frames;              // T
  int64_t height;              // H
  int64_t width;               // W
  double radius;               // > 0
  bool query_mask_of_frames = false;
  bool key_mask_of_frames = false;

  int64_t area() const { return height * width; }
  int64_t rows() const { return batch * frames * area(); }
  int64_t columns() const { return key_batch * frames * area(); }
  // How many frames have the same pairs: all of a sample, or, where a mask is of frames, each for itself. A "set" is such
  // frames' pairs.
  int64_t frames_of_set() const { return query_mask_of_frames || key_mask_of_frames ? 1 : frames; }
};

struct PixelContrastForward {
  Dtype dtype;            // of the products
  const void* query;      // [B, T, H, W, D]
  const void* key;        // [M, T, H, W, D]
  const void* negatives;  // [K, D], null where K = 0
  PixelContrastPairs pairs;
  int64_t dim;                  // D
  int64_t negative_rows;        // K
  Temperature temperature;      // > 0
  bool tf32;                    // CUDA: float32 products may be taken in TF32; the CPU ignores it
  void* loss;                   // [] accumulation
  void* log_sum_exp;            // [B, T, H, W] accumulation, over all columns; 0 for rows with no positive
  void* log_sum_exp_positives;  // [B, T, H, W] accumulation, over the positives; 0 for rows with no positive
  void* weight;                 // [B, T, H, W] accumulation
  void* expected_difference;    // [B, T, H, W, D] accumulation, D_i; 0 for rows with no positive; null: not wanted
  StoredTypes types = {};       // in memory, where they are others
};

struct PixelContrastBackward {
  Dtype dtype;        // of the products
  const void* query;  // [B, T, H, W, D]
  const void* key;    // [M, T, H, W, D]
  PixelContrastPairs pairs;
  int64_t dim;  // D
  Temperature temperature;
  bool tf32;
  const void* grad_loss;              // []
  const void* log_sum_exp;            // [B, T, H, W] accumulation
  const void* log_sum_exp_positives;  // [B, T, H, W] accumulation
  const void* weight;                 // [B, T, H, W] accumulation
  const void* expected_difference;    // [B, T, H, W, D] accumulation; may be null where grad_query is
  void* grad_query;                   // [B, T, H, W, D], or null: not wanted
  void* grad_key;                     // [M, T, H, W, D], or null: not wanted
  StoredTypes types = {};             // in memory, where they are others
};

void pixel_contrast_forward_cpu(const PixelContrastForward& args, const Parallel& parallel);
void pixel_contrast_backward_cpu(const PixelContrastBackward& args, const Parallel& parallel);

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
// Bytes of scratch that the launchers need for these sizes on the current device (0: none). The workspace is 256-byte
// aligned and need not be cleared. All other pointers are aligned to their element only.
size_t pixel_contrast_workspace_bytes(const PixelContrastForward& args);
size_t pixel_contrast_backward_workspace_bytes(const PixelContrastBackward& args);
cudaError_t pixel_contrast_forward_cuda(const PixelContrastForward& args, void* workspace, cudaStream_t stream);
cudaError_t pixel_contrast_backward_cuda(const PixelContrastBackward& args, void* workspace, cudaStream_t stream);
#endif

}  // namespace motionops
