// The forward pass of a loss whose rows each have an own key beside the shared columns: main loop, merge and the layout of
// their workspace. queue_infonce and pairwise_infonce differ only in the policy that strikes out columns.
#pragma once

#include "contrast/feature_element.cuh"
#include "contrast/queue_infonce.h"
#include "contrast/streaming_softmax.cuh"
#include "core/dependent_launch.h"
#include "core/device_types.h"
#include "core/workspace.h"

namespace motionops {

namespace own_key {

struct Merge {
  Partials partials;
  int32_t* counter;
  float* row_loss;   // [B]
  StoredValues key;  // [B, D]
  int64_t rows;
  int64_t dim;
  int64_t tiles;
  int64_t workers;
  Temperature temperature;
  float* loss;
  int32_t* rank;
  float* positive_logit;
  float* log_sum_exp;
  float* expected_key;  // or null
};

// Few rows would leave most of a GPU idle, and one multiprocessor with all the slots of a row: blocks then share a row's
// elements.
inline constexpr int kSharedPiece = 32;

inline int64_t blocks_of_row(int64_t rows, int64_t dim) {
  return rows < 2 * multiprocessor_count() ? (dim + kSharedPiece - 1) / kSharedPiece : 1;
}

// The blocks of row x have number z.
template <typename Element>
__global__ void __launch_bounds__(kMergeThreads) own_key_merge_kernel(const __grid_constant__ Merge merge) {
  wait_for_kernel_before();
  const Partition partition(merge.rows, merge.tiles, merge.workers);
  const int64_t row = blockIdx.x, block = row / kTileRows;
  const int row_in_block = static_cast<int>(row % kTileRows);
  const int64_t first = partition.first_slot(block), last = partition.last_slot(block);
  const float positive = merge.partials.positive[first * kTileRows + row_in_block] * merge.temperature.read_inverse();
  const RowStatistics negatives = combine_statistics_together(merge.partials, first, last, row_in_block);

  const float base = finite_base(fmaxf(negatives.maximum, positive));
  const float own = expf(positive - base);
  const float sum = negatives.sum * expf(negatives.maximum - base) + own;
  const float log_sum_exp = base + logf(sum);
  if (threadIdx.x == 0 && blockIdx.z == 0) {
    merge.rank[row] = negatives.rank;
    merge.positive_logit[row] = positive;
    merge.log_sum_exp[row] = log_sum_exp;
    merge.row_loss[row] = log_sum_exp - positive;
  }
  if (merge.expected_key != nullptr) {
    const StoredValues key = merge.key.from(row * merge.dim);
    const float scale = 1.0f / merge.partials.weight_scale;
    const auto emit = [&](int64_t d, float total) {
      if (d < merge.dim) {
        merge.expected_key[row * merge.dim + d] = (total * scale + own * key.in_products<Element>(d)) / sum;
      }
    };
    if (gridDim.z == 1) {
      combine_expected<true>(merge.partials, first, last, row_in_block, base, emit);
    } else {
      combine_piece<true, kSharedPiece>(merge.partials, first, last, row_in_block, base,
                                        int64_t{blockIdx.z} * kSharedPiece, emit);
    }
  }
  if (last_block(merge.counter)) {
    __shared__ float scratch[kMergeWarps];
    float total = 0.0f;
    for (int64_t index = threadIdx.x; index < merge.rows; index += kMergeThreads)
      total += __ldcg(merge.row_loss + index);
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) *merge.loss = total / static_cast<float>(merge.rows);
  }
}

struct Plan {
  Streaming stream{};
  Merge merge{};
};

// Lays out the workspace; with a null base only its size is of interest.
inline Plan make_plan(const QueueInfonceForward& args, Workspace& workspace) {
  const int64_t columns = args.queue_rows + args.extra_rows;
  const bool expected = args.expected_key != nullptr;
  const int64_t workers =
      streaming_workers(row_blocks(args.rows) * column_tiles(columns), kLeastTiles, args.dim, expected);
  const int64_t places = streaming_slots(args.rows, workers) * kTileRows;

  Partials partials{};
  partials.padded_dim = padded_dim(args.dim);
  partials.weight_scale = weight_scale_of(args.dtype);
  partials.maximum = workspace.take<float>(places);
  partials.sum = workspace.take<float>(places);
  partials.positive = workspace.take<float>(places);
  partials.rank = workspace.take<int32_t>(places);
  partials.expected = expected ? workspace.take<float>(places * partials.padded_dim) : nullptr;
  auto* counter = workspace.take<int32_t>(1);

  Plan plan;
  plan.stream.rows = {query_values(args.query, args.types, args.dtype), nullptr, nullptr, args.rows};
  plan.stream.columns = {{args.queue, args.dtype}, nullptr, nullptr, args.queue_rows};
  plan.stream.more_columns = {args.extra, args.types.extra.value_or(args.dtype)};
  plan.stream.more_rows = args.extra_rows;
  plan.stream.own_keys = key_values(args.key, args.types, args.dtype);
  plan.stream.dim = args.dim;
  plan.stream.temperature = args.temperature;
  plan.stream.vectors = vectors_possible(args.dtype, args.dim, args.query, args.key, args.queue, args.extra);
  plan.stream.counter = counter;
  plan.stream.partials = partials;

  plan.merge.partials = partials;
  plan.merge.counter = counter;
  plan.merge.row_loss = workspace.take<float>(args.rows);
  plan.merge.key = plan.stream.own_keys;
  plan.merge.rows = args.rows;
  plan.merge.dim = args.dim;
  plan.merge.tiles = column_tiles(columns);
  plan.merge.workers = workers;
  plan.merge.temperature = args.temperature;
  plan.merge.loss = static_cast<float*>(args.loss);
  plan.merge.rank = args.rank;
  plan.merge.positive_logit = static_cast<float*>(args.positive_logit);
  plan.merge.log_sum_exp = static_cast<float*>(args.log_sum_exp);
  plan.merge.expected_key = static_cast<float*>(args.expected_key);
  return plan;
}

}  // namespace own_key

inline size_t own_key_workspace_bytes(const QueueInfonceForward& args) {
  Workspace sizes(nullptr);
  own_key::make_plan(args, sizes);
  return sizes.bytes();
}

// `policy` says which of the columns, the queue and then the extra negatives, count for which row.
template <typename Policy>
cudaError_t own_key_forward(const QueueInfonceForward& args, const Policy& policy, void* workspace,
                            cudaStream_t stream) {
  if (args.rows == 0) return cudaMemsetAsync(args.loss, 0, sizeof(float), stream);
  Workspace memory(workspace);
  const own_key::Plan plan = own_key::make_plan(args, memory);
  const cudaError_t error =
      launch_streaming_softmax(args.dtype, args.tf32, plan.stream, policy, plan.merge.workers, stream);
  if (error != cudaSuccess) return error;
  return with_element(args.dtype, [&](auto element) {
    const int64_t sharing = args.expected_key != nullptr ? own_key::blocks_of_row(args.rows, args.dim) : 1;
    return launch_dependent(own_key::own_key_merge_kernel<decltype(element)>, grid_of(args.rows, sharing),
                            dim3(kMergeThreads), stream, plan.merge);
  });
}

}  // namespace motionops
