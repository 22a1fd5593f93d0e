// queue_infonce: InfoNCE of every query against its own key, a queue and extra negatives.
//
// Formula, for query row i (τ = temperature):
//   s_i    = q_i · k_i / τ                                    the positive
//   Z_i    = e^{s_i} + Σ_{j in queue, queue_id_j != query_id_i} e^{q_i · n_j / τ} + Σ_{extra} e^{q_i · e_j / τ}
//   loss   = 1/B Σ_i (log Z_i − s_i)                          0 where B = 0
//   rank_i = number of counted negatives whose logit is above s_i
//   E_i    = (e^{s_i} k_i + Σ_{counted negatives} e^{logit} n) / Z_i   the expected key
// Gradients, with g the gradient of the loss and p_i = e^{s_i} / Z_i:
//   grad_query_i = g / (B τ) (E_i − k_i)        grad_key_i = g / (B τ) (p_i − 1) q_i
// so one pass over the queue gives the loss and all that its gradients need.
//
// Shapes: query, key [B, D]; queue [K, D]; extra [E, D]; all contiguous; rounded to `dtype`, the
//   queue's own type, as they are read. B, K, E may be 0; D >= 1.
// Numerics: products of `dtype` values, accumulated in float32 (float64 for float64: "the accumulation type"). Statistics
//   are stored in the accumulation type. NaN and infinity give what log_softmax of the dense logits gives.
// Cost: 2 (K + E) B D operations for the loss, as many again for E; the queue is read once for each block of query rows
//   that a core (or a multiprocessor) holds. Extra memory does not depend on K.
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
struct QueueInfonceForward {
  Dtype dtype;               // of the products
  const void* query;         // [B, D]
  const void* key;           // [B, D]
  const void* queue;         // [K, D]
  const void* extra;         // [E, D], null where E = 0
  const int64_t* query_ids;  // [B] or null: every queue row counts
  const int64_t* queue_ids;  // [K], null exactly where query_ids is
  int64_t rows;              // B
  int64_t dim;               // D
  int64_t queue_rows;        // K
  int64_t extra_rows;        // E
  Temperature temperature;   // > 0
  bool tf32;                 // CUDA: float32 products may be taken in TF32; the CPU ignores it
  void* loss;                // [] accumulation
  int32_t* rank;             // [B]
  void* positive_logit;      // [B] accumulation, s_i
  void* log_sum_exp;         // [B] accumulation, log Z_i
  void* expected_key;        // [B, D] accumulation, E_i; null where no query gradient is wanted
  StoredTypes types = {};    // in memory, where they are others
};

struct QueueInfonceBackward {
  Dtype dtype;                 // of the products
  const void* query;           // [B, D]
  const void* key;             // [B, D]
  const void* grad_loss;       // []
  const void* positive_logit;  // [B] accumulation
  const void* log_sum_exp;     // [B] accumulation
  const void* expected_key;    // [B, D] accumulation; may be null where grad_query is
  int64_t rows;                // B
  int64_t dim;                 // D
  Temperature temperature;
  void* grad_query;        // [B, D], or null: not wanted
  void* grad_key;          // [B, D], or null: not wanted
  StoredTypes types = {};  // in memory, where they are others
};

void queue_infonce_forward_cpu(const QueueInfonceForward& args, const Parallel& parallel);
void queue_infonce_backward_cpu(const QueueInfonceBackward& args, const Parallel& parallel);

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
// Bytes of scratch that the forward launcher needs for these sizes on the current device (0: none). The workspace is
// 256-byte aligned and need not be cleared. All other pointers are aligned to their element only.
size_t queue_infonce_workspace_bytes(const QueueInfonceForward& args);
cudaError_t queue_infonce_forward_cuda(const QueueInfonceForward& args, void* workspace, cudaStream_t stream);
cudaError_t queue_infonce_backward_cuda(const QueueInfonceBackward& args, cudaStream_t stream);
#endif

}  // namespace motionops
