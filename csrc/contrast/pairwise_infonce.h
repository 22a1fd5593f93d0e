// pairwise_infonce: InfoNCE within a batch. Key i is the positive of query i, every other key a negative, but those of the
// query's own video.
//
// Formula, for query row i (τ = temperature):
//   s_ij   = q_i · k_j / τ            Z_i = Σ_j e^{s_ij}            p_ij = e^{s_ij} / Z_i
//            over j = i and the j with key_id_j != query_id_i; p_ij = 0 for the others
//   loss   = 1/N Σ_i (log Z_i − s_ii)                               0 where N = 0
//   rank_i = number of counted j ≠ i with s_ij above s_ii
//   E_i    = Σ_j p_ij k_j                                           the expected key
// Gradients, with g the gradient of the loss:
//   grad_query_i = g / (N τ) (E_i − k_i)
//   grad_key_j   = g / (N τ) (Q_j − (1 − p_jj) q_j)     Q_j = Σ_{i ≠ j} p_ij q_i the expected query; on the GPU by a
//                  transposed pass with p from the saved log Z; on the CPU, and in panels, by the forward pass, which
//                  has p at hand
//
// Shapes: query [N, D]; key [M, D] with M >= N (rows N.. are negatives of every query); contiguous, rounded to `dtype` as
//   they are read. N may be 0; D >= 1.
// Numerics: products of `dtype` values, accumulated in float32 (float64 for float64: "the accumulation type").
// Cost: 2 N M D operations for the loss, as many again for E, and as many for Q; a transposed pass takes 4 N M D. Extra
//   memory is O((N + M) D); in panels, which are the binding's way with wide features (pairwise_panels.h), 128 MiB more, or
//   1.5 KiB a key, on a GPU, and 8 MiB, or 0.5 KiB a key, on the CPU.
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

// "accumulation": float for float32, bfloat16 and float16; double for float64.
struct PairwiseInfonceForward {
  Dtype dtype;               // of the products
  const void* query;         // [N, D]
  const void* key;           // [M, D]
  const int64_t* query_ids;  // [N] or null: every key counts
  const int64_t* key_ids;    // [M], null exactly where query_ids is
  int64_t rows;              // N
  int64_t key_rows;          // M >= N
  int64_t dim;               // D
  Temperature temperature;   // > 0
  bool tf32;                 // CUDA: float32 products may be taken in TF32
  void* loss;                // [] accumulation
  int32_t* rank;             // [N]
  void* positive_logit;      // [N] accumulation, s_ii
  void* log_sum_exp;         // [N] accumulation, log Z_i
  void* expected_key;        // [N, D] accumulation, E_i; null where no query gradient is wanted
  void* expected_query;      // [M, D] accumulation, Q_j; null where no key gradient is wanted; CPU and panels only
  StoredTypes types = {};    // in memory, where they are others
};

struct PairwiseInfonceBackward {
  Dtype dtype;                 // of the products
  const void* query;           // [N, D]
  const void* key;             // [M, D]
  const int64_t* query_ids;    // [N] or null
  const int64_t* key_ids;      // [M] or null
  const void* grad_loss;       // []
  const void* positive_logit;  // [N] accumulation
  const void* log_sum_exp;     // [N] accumulation
  const void* expected_key;    // [N, D] accumulation; may be null where grad_query is
  const void* expected_query;  // [M, D] accumulation; CPU and panels only, may be null where grad_key is
  int64_t rows;                // N
  int64_t key_rows;            // M
  int64_t dim;                 // D
  Temperature temperature;
  bool tf32;
  bool in_panels;          // what was saved is that of a forward pass in panels (pairwise_panels.h)
  void* grad_query;        // [N, D], or null: not wanted
  void* grad_key;          // [M, D], or null: not wanted
  StoredTypes types = {};  // in memory, where they are others
};

void pairwise_infonce_forward_cpu(const PairwiseInfonceForward& args, const Parallel& parallel);
void pairwise_infonce_backward_cpu(const PairwiseInfonceBackward& args, const Parallel& parallel);

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
// Bytes of scratch that the launchers need for these sizes on the current device (0: none). The workspace is 256-byte
// aligned and need not be cleared. All other pointers are aligned to their element only.
size_t pairwise_infonce_workspace_bytes(const PairwiseInfonceForward& args);
size_t pairwise_infonce_backward_workspace_bytes(const PairwiseInfonceBackward& args);
cudaError_t pairwise_infonce_forward_cuda(const PairwiseInfonceForward& args, void* workspace, cudaStream_t stream);
cudaError_t pairwise_infonce_backward_cuda(const PairwiseInfonceBackward& args, void* workspace, cudaStream_t stream);
#endif

}  // namespace motionops
