// pixel_contrast on the GPU. Forward, five kernels: which pixels are near (a bit each); the list of query pixels that
// have a positive, so that the others cost nothing; the streaming softmax of the listed rows over all columns *but*
// their positives; the same over the positives alone, which lie among the columns of a row's own frame; and a merge.
//
// Why the two runs are disjoint: with n the non-positives, r the positives, the loss is log(1 + e^(lse_n - lse_r)) and
// D = (1 - mass of the positives) (E_n - E_r). Neither loses its digits when the model is confident, as the difference
// of two nearly equal expectations from rounded weights would.
//
// Backward for the keys: the transposed pass. Key pixels are the rows, listed queries the columns; weights come from
// the saved log-sum-exps, scaled by the largest row weight so that they use the range of the operand type.
//
// What limits it on Hopper (predicted). A FIMA step on Kinetics, B = 8, 2 frames of 49 pixels, 32144 columns, D = 128,
// bfloat16, half of the pixels listed: 384 rows, 6.3 GFLOP, 8 us at the full matrix rate and about twice that with
// mma.sync; 8.2 MB of columns, read from memory once and by the other row blocks from L2. Five launches cost about as
// much again: below this size it is bound by them, above it by the matrix units.
#include "contrast/pixel_contrast.h"

#include "contrast/pixel_pairs.cuh"
#include "contrast/streaming_softmax.cuh"
#include "core/workspace.h"

namespace motionops {
namespace {

// Columns of a query pixel: its positives, or all but its positives.
struct QueryPixels {
  struct Row {
    int64_t frame_begin;   // the first column of the row's frame
    const uint32_t* near;  // [words]
  };
  struct Block {
    int64_t begin, end;  // columns of the frames of its rows
  };

  PixelPairs pairs;
  bool positives;

  __device__ __forceinline__ Row row(int64_t row) const {
    const int64_t frame = row / pairs.area, pixel = row - frame * pairs.area;
    return {frame * pairs.area, pairs.near + (frame / pairs.frames_of_set * pairs.area + pixel) * pairs.words};
  }
  __device__ __forceinline__ Block block(int64_t first, int64_t last) const {
    return {first / pairs.area * pairs.area, (last / pairs.area + 1) * pairs.area};
  }
  __device__ __forceinline__ bool local() const { return positives; }
  __device__ __forceinline__ ColumnRange range(const Block& block) const { return {block.begin, block.end}; }
  __device__ __forceinline__ bool masks(const Block& block, int64_t begin, int64_t end) const {
    return positives || (begin < block.end && end > block.begin);
  }
  __device__ __forceinline__ bool counts(const Row& row, int64_t column) const {
    const auto offset = static_cast<uint64_t>(column - row.frame_begin);  // huge before the frame
    const bool near = offset < static_cast<uint64_t>(pairs.area) && (row.near[offset / 32] >> (offset % 32) & 1) != 0;
    return near == positives;
  }
};

// What the transposed pass knows of a query.
struct alignas(16) DescribedQuery {
  float log_sum_exp;
  float log_sum_exp_positives;
  float weight;  // in units of the largest
  int32_t row;
};

struct KeyPixels {
  using Column = DescribedQuery;
  struct Row {
    int32_t frame_begin;
    const uint32_t* near;  // the word of this key, of its set's first query pixel
    int32_t bit;
  };
  struct Block {};

  PixelPairs pairs;
  const DescribedQuery* queries;  // [listed]

  __device__ __forceinline__ const DescribedQuery* columns() const { return queries; }
  __device__ __forceinline__ int64_t described_columns() const { return pairs.header->listed; }
  __device__ __forceinline__ Row row(int64_t row) const {
    const int64_t frame = row / pairs.area, pixel = row - frame * pairs.area;
    return {static_cast<int32_t>(frame * pairs.area),
            pairs.near + frame / pairs.frames_of_set * pairs.area * pairs.words + pixel / 32,
            static_cast<int32_t>(pixel % 32)};
  }
  __device__ __forceinline__ Block block(int64_t, int64_t) const { return {}; }
  __device__ __forceinline__ float coefficient(const Row& row, int64_t, const DescribedQuery& query,
                                               float logit) const {
    const auto offset = static_cast<uint32_t>(query.row - row.frame_begin);
    if (offset < static_cast<uint32_t>(pairs.area) && (row.near[int64_t{offset} * pairs.words] >> row.bit & 1) != 0) {
      // p - r, without the difference
      return query.weight * exp_approximate(logit - query.log_sum_exp_positives) *
             expm1f(query.log_sum_exp_positives - query.log_sum_exp);
    }
    return query.weight * exp_approximate(logit - query.log_sum_exp);
  }
};

struct Merge {
  PixelPairs pairs;
  Partials others, positives;
  int64_t other_tiles, other_workers, positive_workers;
  int64_t dim;
  int32_t* counter;
  float* row_loss;               // [rows]
  float* loss;                   // []
  float* log_sum_exp;            // [rows]
  float* log_sum_exp_positives;  // [rows]
  const float* weight;           // [rows]
  float* expected_difference;    // [rows, D] or null
};

// A block per row, listed or not.
__global__ void __launch_bounds__(kMergeThreads, 4) pixel_contrast_merge_kernel(const __grid_constant__ Merge merge) {
  const int64_t row = blockIdx.x;
  const int32_t place = merge.pairs.place[row];
  if (place < 0) {
    if (threadIdx.x == 0) {
      merge.row_loss[row] = 0.0f;
      merge.log_sum_exp[row] = 0.0f;
      merge.log_sum_exp_positives[row] = 0.0f;
    }
    if (merge.expected_difference != nullptr) {
      for (int64_t d = threadIdx.x; d < merge.dim; d += kMergeThreads)
        merge.expected_difference[row * merge.dim + d] = 0.0f;
    }
  } else {
    const int64_t listed = merge.pairs.header->listed, block = place / kTileRows;
    const int in_block = place % kTileRows;
    const Partition of_others(listed, merge.other_tiles, merge.other_workers);
    const Partition of_positives(listed, 1, merge.positive_workers);
    const int64_t first_other = of_others.first_slot(block), last_other = of_others.last_slot(block);
    const int64_t first_positive = of_positives.first_slot(block), last_positive = of_positives.last_slot(block);
    const RowStatistics others = combine_statistics(merge.others, first_other, last_other, in_block);
    const RowStatistics positives = combine_statistics(merge.positives, first_positive, last_positive, in_block);
    const float other_base = finite_base(others.maximum), positive_base = finite_base(positives.maximum);
    const float lse_others = other_base + logf(others.sum);
    const float lse_positives = positive_base + logf(positives.sum);
    const float above = lse_others - lse_positives;
    const float tail = log1pf(expf(-fabsf(above)));
    if (threadIdx.x == 0) {
      merge.row_loss[row] = fmaxf(above, 0.0f) + tail;
      merge.log_sum_exp[row] = fmaxf(lse_others, lse_positives) + tail;
      merge.log_sum_exp_positives[row] = lse_positives;
    }
    if (merge.expected_difference != nullptr) {
      float* out = merge.expected_difference + row * merge.dim;
      const float scale = 1.0f / merge.others.weight_scale;
      const float share = 1.0f / (1.0f + expf(-above));  // mass of the columns that are no positives
      combine_expected<true>(merge.others, first_other, last_other, in_block, other_base, [&](int64_t d, float total) {
        if (d < merge.dim) out[d] = others.sum == 0.0f ? 0.0f : total * scale / others.sum;
      });
      combine_expected<true>(merge.positives, first_positive, last_positive, in_block, positive_base,
                             [&](int64_t d, float total) {
                               if (d < merge.dim) out[d] = share * (out[d] - total * scale / positives.sum);
                             });
    }
  }
  if (last_block(merge.counter)) {
    __shared__ float scratch[kMergeWarps];
    float total = 0.0f;
    for (int64_t index = threadIdx.x; index < gridDim.x; index += kMergeThreads) {
      if (merge.pairs.place[index] >= 0) total += merge.weight[index] * __ldcg(merge.row_loss + index);
    }
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) *merge.loss = total;
  }
}

__global__ void __launch_bounds__(256)
    describe_queries_kernel(const __grid_constant__ PixelContrastBackward args,
                            const __grid_constant__ PixelPairs pairs, DescribedQuery* out) {
  const int64_t index = blockIdx.x * int64_t{blockDim.x} + threadIdx.x;
  if (index >= pairs.header->listed) return;
  const int32_t row = pairs.list[index];
  out[index] = {static_cast<const float*>(args.log_sum_exp)[row],
                static_cast<const float*>(args.log_sum_exp_positives)[row],
                static_cast<const float*>(args.weight)[row] / pairs.header->maximum_weight, row};
}

// grad_key = g / tau * (sum over the slots), a block per key row.
__global__ void __launch_bounds__(kMergeThreads)
    pixel_contrast_key_merge_kernel(const __grid_constant__ PixelContrastBackward args, const StoredGradients gradients,
                                    const __grid_constant__ Partials partials, const PixelHeader* header,
                                    int64_t maximum_workers) {
  const int64_t row = blockIdx.x, block = row / kTileRows;
  const Partition partition(gridDim.x, column_tiles(header->listed), maximum_workers);
  // without a row that counts the gradient is zero even if g is not finite
  const float scale = header->listed == 0 ? 0.0f
                                          : gradients.loss[0] * header->maximum_weight /
                                                (args.temperature.read() * partials.weight_scale);
  combine_expected<false>(partials, partition.first_slot(block), partition.last_slot(block),
                          static_cast<int>(row % kTileRows), 0.0f, [&](int64_t d, float total) {
                            if (d < args.dim) gradients.key.set(row * args.dim + d, scale * total);
                          });
}

// grad_query = g weight / tau * D, a block per row.
__global__ void __launch_bounds__(128)
    pixel_contrast_query_gradient_kernel(const __grid_constant__ PixelContrastBackward args,
                                         const StoredGradients gradients) {
  const int64_t row = blockIdx.x;
  const float weight = static_cast<const float*>(args.weight)[row];
  const float scale = gradients.loss[0] * weight / args.temperature.read();
  const float* difference = static_cast<const float*>(args.expected_difference) + row * args.dim;
  // a row that does not count has a gradient of zero even if g is not finite
  for (int64_t d = threadIdx.x; d < args.dim; d += blockDim.x) {
    gradients.query.set(row * args.dim + d, weight == 0.0f ? 0.0f : scale * difference[d]);
  }
}

Partials take_partials(int64_t slots, int64_t dim, Dtype dtype, bool statistics, bool expected, Workspace& workspace) {
  const int64_t places = slots * kTileRows;
  Partials partials{};
  partials.padded_dim = padded_dim(dim);
  partials.weight_scale = weight_scale_of(dtype);
  if (statistics) {
    partials.maximum = workspace.take<float>(places);
    partials.sum = workspace.take<float>(places);
  }
  if (expected) partials.expected = workspace.take<float>(places * partials.padded_dim);
  return partials;
}

struct ForwardPlan {
  Streaming others{}, positives{};
  Merge merge{};
};

// Lays out the workspace; with a null base only its size is of interest.
ForwardPlan make_plan(const PixelContrastForward& args, Workspace& workspace) {
  const PixelPairs pairs = take_pixel_pairs(args.pairs, workspace);
  const int64_t rows = pairs.rows(), key_rows = args.pairs.columns(), columns = key_rows + args.negative_rows;
  const bool expected = args.expected_difference != nullptr;
  ForwardPlan plan;
  Merge& merge = plan.merge;
  merge.pairs = pairs;
  merge.dim = args.dim;
  merge.other_tiles = column_tiles(columns);
  merge.other_workers = streaming_workers(row_blocks(rows) * merge.other_tiles, kLeastTiles, args.dim, expected);
  merge.positive_workers = streaming_workers(row_blocks(rows), 1, args.dim, expected);
  merge.others =
      take_partials(streaming_slots(rows, merge.other_workers), args.dim, args.dtype, true, expected, workspace);
  merge.positives =
      take_partials(streaming_slots(rows, merge.positive_workers), args.dim, args.dtype, true, expected, workspace);
  merge.counter = workspace.take<int32_t>(1);
  merge.row_loss = workspace.take<float>(rows);
  merge.loss = static_cast<float*>(args.loss);
  merge.log_sum_exp = static_cast<float*>(args.log_sum_exp);
  merge.log_sum_exp_positives = static_cast<float*>(args.log_sum_exp_positives);
  merge.weight = static_cast<const float*>(args.weight);
  merge.expected_difference = static_cast<float*>(args.expected_difference);

  Streaming& others = plan.others;
  others.rows = {query_values(args.query, args.types, args.dtype), pairs.list,
                 pairs.header != nullptr ? &pairs.header->listed : nullptr, rows};
  others.columns = {key_values(args.key, args.types, args.dtype), nullptr, nullptr, key_rows};
  others.more_columns = {args.negatives, args.dtype};
  others.more_rows = args.negative_rows;
  others.dim = args.dim;
  others.temperature = args.temperature;
  others.vectors = vectors_possible(args.dtype, args.dim, args.query, args.key, args.negatives);
  others.counter = merge.counter;
  others.partials = merge.others;

  plan.positives = others;
  plan.positives.more_columns.data = nullptr;
  plan.positives.more_rows = 0;
  plan.positives.counter = nullptr;
  plan.positives.partials = merge.positives;
  return plan;
}

struct BackwardPlan {
  PixelPairs pairs;
  DescribedQuery* queries;
  Streaming stream{};
  int64_t workers = 0;
};

BackwardPlan make_plan(const PixelContrastBackward& args, Workspace& workspace) {
  BackwardPlan plan;
  plan.pairs = take_pixel_pairs(args.pairs, workspace);
  const int64_t rows = plan.pairs.rows(), key_rows = args.pairs.columns();
  plan.queries = workspace.take<DescribedQuery>(rows);
  plan.workers = streaming_workers(row_blocks(key_rows) * column_tiles(rows), kLeastTiles, args.dim, true);
  plan.stream.rows = {key_values(args.key, args.types, args.dtype), nullptr, nullptr, key_rows};
  plan.stream.columns = {query_values(args.query, args.types, args.dtype), plan.pairs.list,
                         plan.pairs.header != nullptr ? &plan.pairs.header->listed : nullptr, rows};
  plan.stream.dim = args.dim;
  plan.stream.temperature = args.temperature;
  plan.stream.vectors = vectors_possible(args.dtype, args.dim, args.query, args.key);
  plan.stream.partials =
      take_partials(streaming_slots(key_rows, plan.workers), args.dim, args.dtype, false, true, workspace);
  return plan;
}

// Rows and pixels are numbered in 32 bits on the device.
bool too_large(const PixelContrastPairs& pairs) { return pairs.columns() > INT32_MAX || pairs.area() > INT32_MAX - 31; }

bool is_empty(const PixelContrastPairs& pairs) { return pairs.rows() == 0; }

}  // namespace

size_t pixel_contrast_workspace_bytes(const PixelContrastForward& args) {
  if (is_empty(args.pairs) || too_large(args.pairs)) return 0;
  Workspace sizes(nullptr);
  make_plan(args, sizes);
  return sizes.bytes();
}

size_t pixel_contrast_backward_workspace_bytes(const PixelContrastBackward& args) {
  if (args.grad_key == nullptr || is_empty(args.pairs) || too_large(args.pairs)) return 0;
  Workspace sizes(nullptr);
  make_plan(args, sizes);
  return sizes.bytes();
}

cudaError_t pixel_contrast_forward_cuda(const PixelContrastForward& args, void* workspace, cudaStream_t stream) {
  if (is_empty(args.pairs)) return cudaMemsetAsync(args.loss, 0, sizeof(float), stream);
  if (too_large(args.pairs)) return cudaErrorInvalidValue;
  Workspace memory(workspace);
  const ForwardPlan plan = make_plan(args, memory);
  const Merge& merge = plan.merge;
  cudaError_t error = find_pixel_pairs(args.pairs, merge.pairs, static_cast<float*>(args.weight), stream);
  if (error != cudaSuccess) return error;
  error = launch_streaming_softmax(args.dtype, args.tf32, plan.others, QueryPixels{merge.pairs, false},
                                   merge.other_workers, stream);
  if (error != cudaSuccess) return error;
  error = launch_streaming_softmax(args.dtype, args.tf32, plan.positives, QueryPixels{merge.pairs, true},
                                   merge.positive_workers, stream);
  if (error != cudaSuccess) return error;
  return launch(pixel_contrast_merge_kernel, grid_of(merge.pairs.rows()), dim3(kMergeThreads), 0, stream, merge);
}

cudaError_t pixel_contrast_backward_cuda(const PixelContrastBackward& args, void* workspace, cudaStream_t stream) {
  const int64_t rows = args.pairs.rows(), key_rows = args.pairs.columns();
  const StoredGradients gradients = StoredGradients::of(args);
  if (is_empty(args.pairs)) {
    if (args.grad_key == nullptr || key_rows == 0) return cudaSuccess;
    return cudaMemsetAsync(args.grad_key, 0, key_rows * args.dim * size_of(gradients.key.dtype), stream);
  }
  if (too_large(args.pairs)) return cudaErrorInvalidValue;
  if (args.grad_query != nullptr) {
    const cudaError_t error =
        launch(pixel_contrast_query_gradient_kernel, grid_of(rows), dim3(128), 0, stream, args, gradients);
    if (error != cudaSuccess) return error;
  }
  if (args.grad_key == nullptr) return cudaSuccess;
  Workspace memory(workspace);
  const BackwardPlan plan = make_plan(args, memory);
  cudaError_t error = find_pixel_pairs(args.pairs, plan.pairs, nullptr, stream);
  if (error != cudaSuccess) return error;
  error = launch(describe_queries_kernel, grid_of((rows + 255) / 256), dim3(256), 0, stream, args, plan.pairs,
                 plan.queries);
  if (error != cudaSuccess) return error;
  error = launch_streaming_softmax(args.dtype, args.tf32, plan.stream, KeyPixels{plan.pairs, plan.queries},
                                   plan.workers, stream);
  if (error != cudaSuccess) return error;
  return launch(pixel_contrast_key_merge_kernel, grid_of(key_rows), dim3(kMergeThreads), 0, stream, args, gradients,
                plan.stream.partials, plan.pairs.header, plan.workers);
}

}  // namespace motionops
