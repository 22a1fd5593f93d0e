// pairwise_infonce through products of whole panels: the queries are taken some hundred at a time against all keys,
// their scores come from the BLAS into memory that the L2 cache holds, and what lies between the products is done here.
//
//   scores  = queries of the panel . keys^T          [rows, M], float32
//   weights = p_ij, 0 in the own key's place         [rows, M], in the products' type, times weight_scale; 0 where the ids
//             of query and key are equal
//   E, Q    = weights . keys, and the sum over the panels of weights^T . queries, each without a row's own
// A panel has all columns of its rows, so their log Z is known before the weights are written: no score is computed
// twice, where the streaming kernel computes those of D > 128 once for each piece of D and once more for the keys'
// gradient. Its price is memory for one panel. What is saved for the backward pass: E and Q, both without the row's own
// feature, and s_ii and log Z_i, both less the row's largest logit, so that p_ii - 1 keeps its digits.
//
// What limits it on an H100 (predicted). N = M = 16384, D = 512, bfloat16: 6 N M D = 0.82 TFLOP are 1.14 ms at 726
// TFLOP/s, 1.3 as these shapes fill the card; 6 bytes a score between the products, 0.4 ms from the L2 cache; summing Q
// over 8 panels, 0.25 ms.
#pragma once

#include <algorithm>
#include <cstdint>

#include "contrast/pairwise_infonce.h"

namespace motionops {

// Above this width the streaming kernel would take a row of 16-bit features in several pieces.
inline constexpr int64_t kWidestStreamed = 128;

// How many queries are taken at once.
struct PanelRows {
  int64_t scores;   // between two products that make scores
  int64_t weights;  // between two that sum up; a multiple of it

  // `chosen` > 0 queries in a panel of scores, for tests of the seams; 0: as memory has room for.
  static PanelRows of(int64_t rows, int64_t key_rows, int64_t weight_bytes, int64_t chosen) {
    constexpr int64_t kScoreBytes = 32 << 20, kWeightBytes = 64 << 20;  // of an L2 cache of 50 MB; for few sums
    constexpr int64_t kFewest = 256;    // fewer would leave the products bound by reading the keys
    constexpr int64_t kMostPanels = 4;  // of scores, in one of weights
    const int64_t fitting = kScoreBytes / (std::max<int64_t>(key_rows, 1) * 4) / kFewest * kFewest;
    const int64_t scores = std::min(rows, chosen > 0 ? chosen : std::max(fitting, kFewest));
    const int64_t panel_bytes = std::max<int64_t>(scores * key_rows * weight_bytes, 1);
    return {scores, std::min(rows, scores * std::clamp<int64_t>(kWeightBytes / panel_bytes, 1, kMostPanels))};
  }
};

struct PairwisePanel {
  Dtype dtype;               // of the products
  const float* scores;       // [rows, M]: q . k, not divided by the temperature
  void* weights;             // [rows, M] of `dtype`, or null: not wanted; for float32 it may be where the scores are
  int64_t first_row;         // the first query of the panel
  int64_t rows;              // of the panel, >= 1
  int64_t key_rows;          // M
  const int64_t* query_ids;  // [N] or null: every key counts
  const int64_t* key_ids;    // [M]
  Temperature temperature;
  int32_t* rank;          // [N]; a score counts as above where it is by more than rounding
  float* positive_logit;  // [N], and
  float* log_sum_exp;     // [N]: both less the row's largest logit; their difference is all that is asked for later
  float* row_loss;        // [N]
};

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
// What the weights are multiplied with, for the sake of types with a short exponent.
float panel_weight_scale(Dtype dtype);
cudaError_t pairwise_panel_cuda(const PairwisePanel& panel, cudaStream_t stream);
// sums[i] = (sums[i] + part[i]) * scale; no part is 0.
cudaError_t add_panel_cuda(float* sums, const float* part, float scale, int64_t count, cudaStream_t stream);
// loss = the mean of row_loss [rows].
cudaError_t mean_row_loss_cuda(const float* row_loss, int64_t rows, float* loss, cudaStream_t stream);
#endif

}  // namespace motionops
