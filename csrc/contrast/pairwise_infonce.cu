// pairwise_infonce on the GPU: the forward pass of queue_infonce with the keys themselves as the queue, where a row's own
// key is struck out, and those of its video, and a transposed pass for the key gradient.
//
// The diagonal of the key gradient, (p - 1) q, is added in float32 by the merge, from the saved logits: the main loop
// leaves it out, as it does forward.
#include "contrast/pairwise_infonce.h"

#include "contrast/own_key_softmax.cuh"

namespace motionops {
namespace {

struct OtherKeys {
  static constexpr bool kOwnKey = true;
  using Column = int64_t;  // the key's video id
  struct Row {
    int64_t own, id;
  };
  struct Block {
    int64_t begin, end;
  };

  const int64_t* query_ids;  // null: every column counts
  const int64_t* key_ids;
  int64_t keys;  // M

  __device__ __forceinline__ const int64_t* columns() const { return key_ids; }
  __device__ __forceinline__ int64_t described_columns() const { return keys; }
  __device__ __forceinline__ Row row(int64_t row) const { return {row, query_ids != nullptr ? query_ids[row] : 0}; }
  __device__ __forceinline__ Block block(int64_t first, int64_t last) const { return {first, last + 1}; }
  __device__ __forceinline__ bool masks(const Block& block, int64_t begin, int64_t end) const {
    return key_ids != nullptr || (begin < block.end && end > block.begin);
  }
  __device__ __forceinline__ bool counts(const Row& row, int64_t column, int64_t id) const {
    return column != row.own && (key_ids == nullptr || id != row.id);
  }
};

// The transposed pass without ids: rows are keys, columns queries.
struct OtherQueries {
  using Column = float;  // log-sum-exp
  struct Row {
    int64_t own;
  };
  struct Block {
    int64_t begin, end;
  };

  const float* log_sum_exp;  // [N]
  int64_t queries;           // N

  __device__ __forceinline__ const float* columns() const { return log_sum_exp; }
  __device__ __forceinline__ int64_t described_columns() const { return queries; }
  __device__ __forceinline__ Row row(int64_t row) const { return {row}; }
  __device__ __forceinline__ Block block(int64_t first, int64_t last) const { return {first, last + 1}; }
  __device__ __forceinline__ bool alike(const Block& block, int64_t begin, int64_t end) const {
    return begin >= block.end || end <= block.begin;
  }
  __device__ __forceinline__ float coefficient(float log_sum_exp_of_column, float logit) const {
    return exp_approximate(logit - log_sum_exp_of_column);
  }
  __device__ __forceinline__ float coefficient(const Row& row, int64_t column, float log_sum_exp_of_column,
                                               float logit) const {
    return column == row.own ? 0.0f : coefficient(log_sum_exp_of_column, logit);
  }
};

struct alignas(16) DescribedQuery {
  int64_t id;
  float log_sum_exp;
};

// The transposed pass with ids.
struct QueriesOfOtherVideos {
  using Column = DescribedQuery;
  struct Row {
    int64_t own, id;
  };
  struct Block {};

  const int64_t* key_ids;
  const DescribedQuery* described;
  int64_t queries;  // N

  __device__ __forceinline__ const DescribedQuery* columns() const { return described; }
  __device__ __forceinline__ int64_t described_columns() const { return queries; }
  __device__ __forceinline__ Row row(int64_t row) const { return {row, key_ids[row]}; }
  __device__ __forceinline__ Block block(int64_t, int64_t) const { return {}; }
  __device__ __forceinline__ float coefficient(const Row& row, int64_t column, const DescribedQuery& query,
                                               float logit) const {
    return column == row.own || query.id == row.id ? 0.0f : exp_approximate(logit - query.log_sum_exp);
  }
};

constexpr int kDescribeThreads = 256;

__global__ void __launch_bounds__(kDescribeThreads)
    pairwise_infonce_describe_kernel(const int64_t* ids, const float* log_sum_exp, int64_t queries,
                                     DescribedQuery* described) {
  const int64_t query = blockIdx.x * int64_t{kDescribeThreads} + threadIdx.x;
  if (query < queries) described[query] = {ids[query], log_sum_exp[query]};
}

// p - 1 of a row's own key, without the cancellation where p is nearly 1.
__device__ __forceinline__ float missing_probability(const PairwiseInfonceBackward& args, int64_t row) {
  return expm1f(static_cast<const float*>(args.positive_logit)[row] - static_cast<const float*>(args.log_sum_exp)[row]);
}

// grad_query = g / (N tau) (E - k); a block per row.
template <typename Element>
__global__ void __launch_bounds__(128)
    pairwise_infonce_query_gradient_kernel(const __grid_constant__ PairwiseInfonceBackward args,
                                           const StoredGradients gradients) {
  const int64_t row = blockIdx.x;
  const float scale = gradients.loss[0] / (static_cast<float>(args.rows) * args.temperature.read());
  for (int64_t d = threadIdx.x; d < args.dim; d += blockDim.x) {
    const int64_t place = row * args.dim + d;
    gradients.query.set(place, scale * (static_cast<const float*>(args.expected_key)[place] -
                                        device_widen(static_cast<const Element*>(args.key)[place])));
  }
}

// After panels: the gradient of either, g / (N tau) (sums + (p - 1) own), where the sums leave the own ones out; a block
// per row.
template <typename Element>
__global__ void __launch_bounds__(128)
    pairwise_infonce_panel_gradient_kernel(const __grid_constant__ PairwiseInfonceBackward args, const float* sums,
                                           const StoredValues own, const StoredValues grad_loss,
                                           const StoredResults gradient) {
  const int64_t row = blockIdx.x;
  const float scale = grad_loss[0] / (static_cast<float>(args.rows) * args.temperature.read());
  const bool positive = row < args.rows;
  const float miss = positive ? missing_probability(args, row) : 0.0f;
  for (int64_t d = threadIdx.x; d < args.dim; d += blockDim.x) {
    const int64_t place = row * args.dim + d;
    gradient.set(place, scale * (sums[place] + (positive ? miss * own.in_products<Element>(place) : 0.0f)));
  }
}

cudaError_t backward_of_panels(const PairwiseInfonceBackward& args, const StoredGradients& gradients,
                               cudaStream_t stream) {
  const auto start = [&](int64_t rows, const void* sums, const StoredValues& own, const StoredResults& gradient) {
    return with_element(args.dtype, [&](auto element) {
      return launch(pairwise_infonce_panel_gradient_kernel<decltype(element)>, grid_of(rows), dim3(128), 0, stream,
                    args, static_cast<const float*>(sums), own, gradients.loss, gradient);
    });
  };
  if (args.grad_query != nullptr) {
    const cudaError_t error =
        start(args.rows, args.expected_key, key_values(args.key, args.types, args.dtype), gradients.query);
    if (error != cudaSuccess) return error;
  }
  if (args.grad_key == nullptr) return cudaSuccess;
  return start(args.key_rows, args.expected_query, query_values(args.query, args.types, args.dtype), gradients.key);
}

// grad_key = g / (N tau) (sum over the slots + (p - 1) q of the own query); a block per key row.
template <typename Element>
__global__ void __launch_bounds__(kMergeThreads)
    pairwise_infonce_key_merge_kernel(const __grid_constant__ PairwiseInfonceBackward args, const StoredValues query,
                                      const StoredGradients gradients, const __grid_constant__ Partials partials,
                                      int64_t maximum_workers) {
  const int64_t row = blockIdx.x, block = row / kTileRows;
  const Partition partition(args.key_rows, column_tiles(args.rows), maximum_workers);
  const float scale = gradients.loss[0] / (static_cast<float>(args.rows) * args.temperature.read());
  const float inverse_weight_scale = 1.0f / partials.weight_scale;
  const bool positive = row < args.rows;
  const float miss = positive ? missing_probability(args, row) : 0.0f;
  combine_expected<false>(partials, partition.first_slot(block), partition.last_slot(block),
                          static_cast<int>(row % kTileRows), 0.0f, [&](int64_t d, float total) {
                            if (d >= args.dim) return;
                            const int64_t place = row * args.dim + d;
                            float sum = total * inverse_weight_scale;
                            if (positive) sum += miss * query.in_products<Element>(place);
                            gradients.key.set(place, scale * sum);
                          });
}

// The same problem in the words of queue_infonce.
QueueInfonceForward with_keys_as_queue(const PairwiseInfonceForward& args) {
  QueueInfonceForward result{};
  result.dtype = args.dtype;
  result.query = args.query;
  result.key = args.key;
  result.queue = args.key;
  result.rows = args.rows;
  result.dim = args.dim;
  result.queue_rows = args.key_rows;
  result.temperature = args.temperature;
  result.tf32 = args.tf32;
  result.types.query = args.types.query;
  result.loss = args.loss;
  result.rank = args.rank;
  result.positive_logit = args.positive_logit;
  result.log_sum_exp = args.log_sum_exp;
  result.expected_key = args.expected_key;
  return result;
}

struct BackwardPlan {
  Streaming stream{};
  DescribedQuery* described = nullptr;  // [N], where there are ids
  int64_t workers = 0;
};

// Lays out the workspace; with a null base only its size is of interest.
BackwardPlan make_plan(const PairwiseInfonceBackward& args, Workspace& workspace) {
  BackwardPlan plan;
  plan.workers = streaming_workers(row_blocks(args.key_rows) * column_tiles(args.rows), kLeastTiles, args.dim, true);
  Streaming& stream = plan.stream;
  stream.rows = {{args.key, args.dtype}, nullptr, nullptr, args.key_rows};
  stream.columns = {query_values(args.query, args.types, args.dtype), nullptr, nullptr, args.rows};
  stream.dim = args.dim;
  stream.temperature = args.temperature;
  stream.vectors = vectors_possible(args.dtype, args.dim, args.query, args.key);
  stream.partials.padded_dim = padded_dim(args.dim);
  stream.partials.weight_scale = weight_scale_of(args.dtype);
  stream.partials.expected =
      workspace.take<float>(streaming_slots(args.key_rows, plan.workers) * kTileRows * stream.partials.padded_dim);
  if (args.query_ids != nullptr) plan.described = workspace.take<DescribedQuery>(args.rows);
  return plan;
}

cudaError_t transposed_pass(const PairwiseInfonceBackward& args, const BackwardPlan& plan, cudaStream_t stream) {
  const auto* log_sum_exp = static_cast<const float*>(args.log_sum_exp);
  const auto start = [&](const auto& policy) {
    return launch_streaming_softmax(args.dtype, args.tf32, plan.stream, policy, plan.workers, stream);
  };
  if (args.query_ids == nullptr) return start(OtherQueries{log_sum_exp, args.rows});
  const cudaError_t error =
      launch(pairwise_infonce_describe_kernel, grid_of((args.rows + kDescribeThreads - 1) / kDescribeThreads),
             dim3(kDescribeThreads), 0, stream, args.query_ids, log_sum_exp, args.rows, plan.described);
  if (error != cudaSuccess) return error;
  return start(QueriesOfOtherVideos{args.key_ids, plan.described, args.rows});
}

}  // namespace

size_t pairwise_infonce_workspace_bytes(const PairwiseInfonceForward& args) {
  return own_key_workspace_bytes(with_keys_as_queue(args));
}

size_t pairwise_infonce_backward_workspace_bytes(const PairwiseInfonceBackward& args) {
  if (args.grad_key == nullptr || args.in_panels || args.key_rows == 0) return 0;
  Workspace sizes(nullptr);
  make_plan(args, sizes);
  return sizes.bytes();
}

cudaError_t pairwise_infonce_forward_cuda(const PairwiseInfonceForward& args, void* workspace, cudaStream_t stream) {
  return own_key_forward(with_keys_as_queue(args), OtherKeys{args.query_ids, args.key_ids, args.key_rows}, workspace,
                         stream);
}

cudaError_t pairwise_infonce_backward_cuda(const PairwiseInfonceBackward& args, void* workspace, cudaStream_t stream) {
  const StoredGradients gradients = StoredGradients::of(args);
  if (args.rows == 0) {
    if (args.grad_key == nullptr || args.key_rows == 0) return cudaSuccess;
    return cudaMemsetAsync(args.grad_key, 0, args.key_rows * args.dim * size_of(gradients.key.dtype), stream);
  }
  if (args.in_panels) return backward_of_panels(args, gradients, stream);
  if (args.grad_query != nullptr) {
    const cudaError_t error = with_element(args.dtype, [&](auto element) {
      return launch(pairwise_infonce_query_gradient_kernel<decltype(element)>, grid_of(args.rows), dim3(128), 0, stream,
                    args, gradients);
    });
    if (error != cudaSuccess) return error;
  }
  if (args.grad_key == nullptr) return cudaSuccess;
  Workspace memory(workspace);
  const BackwardPlan plan = make_plan(args, memory);
  const cudaError_t error = transposed_pass(args, plan, stream);
  if (error != cudaSuccess) return error;
  return with_element(args.dtype, [&](auto element) {
    return launch(pairwise_infonce_key_merge_kernel<decltype(element)>, grid_of(args.key_rows), dim3(kMergeThreads), 0,
                  stream, args, plan.stream.columns.values, gradients, plan.stream.partials, plan.workers);
  });
}

}  // namespace motionops
