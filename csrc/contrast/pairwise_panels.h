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
// On the CPU too: its BLAS runs these products at 88 GFLOP/s of a core (Zen 3, AVX2) where the streaming pass, whose panels
// have to be packed anew for each block of keys, runs at 64; what lies between them is 2 to 4 % of the time.
//
// What limits it on an H100 (predicted). N = M = 16384, D = 512, bfloat16: 6 N M D = 0.82 TFLOP are 1.2 ms at 684
// TFLOP/s, 1.4 to 1.6 as these shapes fill the card; 6 bytes a score between the products, 0.4 ms from the L2 cache;
// summing Q over 6 panels, 0.12 ms.
#pragma once

#include <algorithm>
#include <cstdint>

#include "contrast/pairwise_infonce.h"

namespace motionops {

// Above this width the streaming kernel would take a row of 16-bit features in several pieces.
inline constexpr int64_t kWidestStreamed = 128;
// On the CPU the BLAS's products are the faster ones from here on: by a tenth at 128, and not yet at 64.
inline constexpr int64_t kWidestStreamedOnCpu = 96;

// Scores that differ by less, relative to the positive's, count as equal: the BLAS may add up the same products in one
// order here and in another there, and a key that is the own one again must not stand above it.
inline constexpr float kTie = 0x1p-20f;

// How many queries are taken at once.
struct PanelRows {
  int64_t scores;   // between two products that make scores
  int64_t weights;  // between two that sum up; a multiple of it

  // `chosen` > 0 queries in a panel of scores, for tests of the seams; 0: as memory has room for.
  static PanelRows of(int64_t rows, int64_t key_rows, int64_t weight_bytes, int64_t chosen) {
    constexpr int64_t kScoreBytes = 32 << 20;   // of an L2 cache of 50 MB
    constexpr int64_t kWeightBytes = 96 << 20;  // for few sums, and results as many as fill the multiprocessors
    constexpr int64_t kMostPanels = 6;          // of scores, in one of weights
    constexpr int64_t kFewest = 256;            // fewer would leave the products bound by reading the keys
    const int64_t scores = of_bytes(kScoreBytes, kFewest, rows, key_rows, chosen);
    const int64_t panel_bytes = std::max<int64_t>(scores * key_rows * weight_bytes, 1);
    return {scores, std::min(rows, scores * std::clamp<int64_t>(kWeightBytes / panel_bytes, 1, kMostPanels))};
  }

  // The same on the CPU, where the weights are written over the scores.
  static int64_t on_cpu(int64_t rows, int64_t key_rows, int64_t chosen) {
    constexpr int64_t kBytes = 8 << 20;  // of a third cache
    constexpr int64_t kFewest = 128;     // fewer would leave the products packing the keys
    return of_bytes(kBytes, kFewest, rows, key_rows, chosen);
  }

 private:
  static int64_t of_bytes(int64_t bytes, int64_t fewest, int64_t rows, int64_t key_rows, int64_t chosen) {
    const int64_t fitting = bytes / (std::max<int64_t>(key_rows, 1) * 4) / fewest * fewest;
    return std::min(rows, chosen > 0 ? chosen : std::max(fitting, fewest));
  }
};

struct PairwisePanel {
  Dtype dtype;        // of the products
  float* scores;      // [rows, M]: q . k, not divided by the temperature; the CPU overwrites them
  void* weights;      // [rows, M] of `dtype`, or null: not wanted; for float32 and on the CPU where the scores are
  int64_t first_row;  // the first query of the panel
  int64_t rows;       // of the panel, >= 1
  int64_t key_rows;   // M
  const int64_t* query_ids;  // [N] or null: every key counts
  const int64_t* key_ids;    // [M]
  Temperature temperature;
  int32_t* rank;          // [N]; a score counts as above where it is by more than rounding
  float* positive_logit;  // [N], and
  float* log_sum_exp;     // [N]: both less the row's largest logit; their difference is all that is asked for later
  float* row_loss;        // [N]
};

// On the CPU scores and weights are float32, whatever the type of the products.
void pairwise_panel_cpu(const PairwisePanel& panel, const Parallel& parallel);

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
