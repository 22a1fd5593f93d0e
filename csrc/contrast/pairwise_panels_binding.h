// The forward pass of pairwise_infonce in panels: products by torch's BLAS, the launchers of pairwise_panels.h between.
#pragma once

#include <algorithm>
#include <vector>

#include "contrast/pairwise_panels.h"
#include "core/matrix_product_binding.h"

namespace motionops {

// What both devices' panels have in common: all but where they lie.
inline PairwisePanel panel_of(const PairwiseInfonceForward& args, float* row_loss) {
  PairwisePanel panel{};
  panel.dtype = args.dtype;
  panel.key_rows = args.key_rows;
  panel.query_ids = args.query_ids;
  panel.key_ids = args.key_ids;
  panel.temperature = args.temperature;
  panel.rank = args.rank;
  panel.positive_logit = static_cast<float*>(args.positive_logit);
  panel.log_sum_exp = static_cast<float*>(args.log_sum_exp);
  panel.row_loss = row_loss;
  return panel;
}

// On the CPU, all in float32; arguments as below.
inline void pairwise_infonce_forward_in_panels_cpu(const PairwiseInfonceForward& args, const Tensor& query,
                                                   const Tensor& key, const Tensor& expected_key,
                                                   const Tensor& expected_query, int64_t chosen_rows,
                                                   const Parallel& parallel) {
  const int64_t rows = args.rows, key_rows = args.key_rows, dim = args.dim;
  const bool query_gradient = args.expected_key != nullptr, key_gradient = args.expected_query != nullptr;
  if (rows == 0 && key_gradient) std::fill_n(static_cast<float*>(args.expected_query), key_rows * dim, 0.0f);
  const int64_t panel_rows = PanelRows::on_cpu(rows, key_rows, chosen_rows);
  const Tensor queries = dense_as(dense_as(query, key.scalar_type()), ScalarType::Float);
  const Tensor keys = matrix(dense_as(key, ScalarType::Float), 0, key_rows, dim);
  const Tensor scratch = empty(Shape{panel_rows * key_rows}, ScalarType::Float, key);
  std::vector<float> row_loss(rows);
  PairwisePanel step = panel_of(args, row_loss.data());
  step.scores = static_cast<float*>(scratch.mutable_data_ptr());
  step.weights = query_gradient || key_gradient ? step.scores : nullptr;
  for (step.first_row = 0; step.first_row < rows; step.first_row += panel_rows) {
    step.rows = std::min(panel_rows, rows - step.first_row);
    const Tensor panel = matrix(scratch, 0, step.rows, key_rows);
    const Tensor panel_queries = matrix(queries, step.first_row * dim, step.rows, dim);
    multiply(panel_queries, transposed(keys), panel);
    pairwise_panel_cpu(step, parallel);
    if (query_gradient) multiply(panel, keys, matrix(expected_key, step.first_row * dim, step.rows, dim));
    if (!key_gradient) continue;
    const Tensor sums = matrix(expected_query, 0, key_rows, dim);
    if (step.first_row == 0) {
      multiply(transposed(panel), panel_queries, sums);
    } else {
      add_product_cpu(transposed(panel), panel_queries, sums);
    }
  }
  double total = 0;
  for (const float loss : row_loss) total += loss;
  *static_cast<float*>(args.loss) = rows == 0 ? 0.0f : static_cast<float>(total / static_cast<double>(rows));
}

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS

// `query` and `key` are contiguous. expected_key [N, D] and expected_query [M, D] are those of `args`, written where
// they are wanted. `chosen_rows`: PanelRows::of.
inline cudaError_t pairwise_infonce_forward_in_panels(const PairwiseInfonceForward& args, const Tensor& query,
                                                      const Tensor& key, const Tensor& expected_key,
                                                      const Tensor& expected_query, int64_t chosen_rows,
                                                      cudaStream_t stream) {
  const int64_t rows = args.rows, key_rows = args.key_rows, dim = args.dim;
  const bool query_gradient = args.expected_key != nullptr, key_gradient = args.expected_query != nullptr;
  if (rows == 0) {
    if (key_gradient) {
      const cudaError_t error = cudaMemsetAsync(args.expected_query, 0, key_rows * dim * sizeof(float), stream);
      if (error != cudaSuccess) return error;
    }
    return cudaMemsetAsync(args.loss, 0, sizeof(float), stream);
  }
  const ScalarType type = key.scalar_type();
  const bool weighted = query_gradient || key_gradient, in_place = weighted && type == ScalarType::Float;
  const int64_t weight_bytes = type == ScalarType::Float ? 4 : 2;
  const PanelRows panel = PanelRows::of(rows, key_rows, weight_bytes, chosen_rows);
  const bool in_parts = key_gradient && panel.weights < rows;  // expected_query is a sum over panels
  const Tensor queries = dense_as(matrix(query, 0, rows, dim), type), keys = matrix(key, 0, key_rows, dim);
  // Scores, and then, when they are no longer wanted, a part of expected_query.
  const Tensor scratch = empty(Shape{std::max(in_place ? 0 : panel.scores * key_rows, in_parts ? key_rows * dim : 0)},
                               ScalarType::Float, key);
  const Tensor weights = empty(Shape{weighted ? panel.weights * key_rows : 0}, type, key);
  const Tensor row_loss = empty(Shape{rows}, ScalarType::Float, key);

  PairwisePanel step = panel_of(args, static_cast<float*>(row_loss.mutable_data_ptr()));
  const float weight_scale = panel_weight_scale(args.dtype);
  for (int64_t first = 0; first < rows; first += panel.weights) {
    const int64_t count = std::min(panel.weights, rows - first);
    for (int64_t begin = 0; begin < count; begin += panel.scores) {
      step.first_row = first + begin;
      step.rows = std::min(panel.scores, count - begin);
      const Tensor scores =
          in_place ? matrix(weights, begin * key_rows, step.rows, key_rows) : matrix(scratch, 0, step.rows, key_rows);
      multiply(matrix(queries, step.first_row * dim, step.rows, dim), transposed(keys), scores);
      step.scores = static_cast<float*>(scores.mutable_data_ptr());
      step.weights = weighted
                         ? static_cast<unsigned char*>(weights.mutable_data_ptr()) + begin * key_rows * weight_bytes
                         : nullptr;
      const cudaError_t error = pairwise_panel_cuda(step, stream);
      if (error != cudaSuccess) return error;
    }
    const Tensor panel_weights = matrix(weights, 0, weighted ? count : 0, key_rows);
    if (query_gradient) multiply(panel_weights, keys, matrix(expected_key, first * dim, count, dim));
    if (key_gradient) {
      const bool start = first == 0, last = first + count == rows;
      const Tensor part = matrix(start ? expected_query : scratch, 0, key_rows, dim);
      multiply(transposed(panel_weights), matrix(queries, first * dim, count, dim), part);
      if (!start || (last && weight_scale != 1.0f)) {
        const cudaError_t error = add_panel_cuda(static_cast<float*>(args.expected_query),
                                                 start ? nullptr : static_cast<const float*>(part.const_data_ptr()),
                                                 last ? 1.0f / weight_scale : 1.0f, key_rows * dim, stream);
        if (error != cudaSuccess) return error;
      }
    }
  }
  if (query_gradient && weight_scale != 1.0f) {
    const cudaError_t error =
        add_panel_cuda(static_cast<float*>(args.expected_key), nullptr, 1.0f / weight_scale, rows * dim, stream);
    if (error != cudaSuccess) return error;
  }
  return mean_row_loss_cuda(step.row_loss, rows, static_cast<float*>(args.loss), stream);
}
#endif

}  // namespace motionops
