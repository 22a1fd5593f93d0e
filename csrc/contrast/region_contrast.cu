// region_contrast on the GPU: the streaming softmax of all rows over all columns, where every column counts, and merge
// kernels that add what a row's own video does in float32. A table of per-axis overlaps stands for S; a merge block reads
// its row of it.
// The transposed pass recomputes p from the saved log-sum-exp and takes S off where the two cells are of one video.
#include "contrast/region_contrast.h"

#include "contrast/feature_element.cuh"
#include "contrast/streaming_softmax.cuh"
#include "core/device_types.h"
#include "core/workspace.h"

namespace motionops {
namespace {

// Every cell counts, but those of a row's own video are withheld from its expected key: what they add, W p - S, is formed
// as one number by the merge. Weights rounded to 16 bits would not cancel with the targets as they do once a network has
// learnt: 6 % of a confident bfloat16 gradient was rounding.
struct AllCells {
  static constexpr bool kOwnKey = false;
  static constexpr bool kSoftmax = true;
  static constexpr bool kRanges = false;
  using Column = int32_t;  // nothing to know
  struct Row {
    int64_t first, last;  // the key cells of its video
  };
  using Block = Row;  // of all its rows' videos

  int64_t rows_of_video;
  int64_t columns_of_video;

  __device__ __forceinline__ const int32_t* columns() const { return nullptr; }
  __device__ __forceinline__ int64_t described_columns() const { return 0; }
  __device__ __forceinline__ Row row(int64_t row) const { return block(row, row); }
  __device__ __forceinline__ Block block(int64_t first_row, int64_t last_row) const {
    return {first_row / rows_of_video * columns_of_video, (last_row / rows_of_video + 1) * columns_of_video};
  }
  __device__ __forceinline__ bool masks(const Block&, int64_t, int64_t) const { return false; }
  __device__ __forceinline__ bool counts(const Row&, int64_t, int32_t) const { return true; }
  // Whether any of these columns may be of the rows' videos; whether this one is of the row's.
  __device__ __forceinline__ bool withholds(const Block& block, int64_t begin, int64_t end) const {
    return begin < block.last && end > block.first;
  }
  __device__ __forceinline__ bool withholds(const Row& row, int64_t column) const {
    return column >= row.first && column < row.last;
  }
};

struct alignas(8) DescribedQuery {
  float log_sum_exp;
  float weight;
};

// The transposed pass: rows are key cells, columns query cells. A coefficient is W p - S as one number: rounded apart to 16
// bits, the two would not cancel where p nearly equals S, as they do once a network has learnt.
struct QueryCells {
  static constexpr bool kOwnKey = false;
  static constexpr bool kSoftmax = false;
  static constexpr bool kRanges = false;
  using Column = DescribedQuery;
  struct Row {
    int64_t first, last;  // the query cells of its video
    int64_t cell;
  };
  struct Block {};

  RegionPairs pairs;
  const float* tables;
  const DescribedQuery* queries;

  __device__ __forceinline__ const DescribedQuery* columns() const { return queries; }
  __device__ __forceinline__ int64_t described_columns() const { return pairs.rows(); }
  __device__ __forceinline__ Row row(int64_t row) const {
    const int64_t cells = pairs.key_grid.count(), video = row / cells, of_video = pairs.rows_of_video();
    return {video * of_video, (video + 1) * of_video, row % cells};
  }
  __device__ __forceinline__ Block block(int64_t, int64_t) const { return {}; }
  __device__ __forceinline__ float coefficient(const Row& row, int64_t column, const DescribedQuery& query,
                                               float logit) const {
    const float expected = query.weight * exp_approximate(logit - query.log_sum_exp);
    return column < row.first || column >= row.last ? expected : expected - share(row, column);
  }

 private:
  // S of a query cell and a key cell of one video.
  __device__ float share(const Row& row, int64_t column) const {
    const int64_t cells = pairs.query_grid.count(), view = column / cells, cell = column % cells;
    const float* table = tables + view * pairs.table_size();
    float product = 1.0f;
#pragma unroll
    for (int axis = 0; axis < kExtentAxes; ++axis) {
      product *= pairs.overlaps(table, axis, cell)[pairs.key_grid.along(axis, row.cell)];
    }
    return product;
  }
};

__global__ void __launch_bounds__(256)
    region_overlaps_kernel(const __grid_constant__ RegionPairs pairs, float* tables) {
  const int64_t size = pairs.table_size(), place = blockIdx.x * int64_t{256} + threadIdx.x;
  if (place < pairs.batch * pairs.views * size) {
    tables[place] = static_cast<float>(pairs.table_value(place / size, place % size));
  }
}

struct Merge {
  RegionPairs pairs;
  Partials partials;
  int64_t workers;
  int64_t dim;
  StoredValues query;
  const void* key;
  const float* tables;
  Temperature temperature;
  int32_t* counter;
  float* row_loss;  // [R]
  float* loss;
  float* log_sum_exp;
  float* weight;
  float* difference;  // or null
};

constexpr int kCellsAtOnce = 128;

// A block per row. It reads the keys of its video twice, mostly from L2: 4 cells D operations beside the 4 N D of a row in
// the main loop.
template <typename Element>
__global__ void __launch_bounds__(kMergeThreads) region_contrast_merge_kernel(const __grid_constant__ Merge merge) {
  __shared__ float scratch[kMergeWarps], coefficient[kCellsAtOnce];
  const RegionPairs& pairs = merge.pairs;
  const int64_t row = blockIdx.x, block = row / kTileRows, cells = pairs.query_grid.count(), view = row / cells;
  const Partition partition(pairs.rows(), column_tiles(pairs.columns()), merge.workers);
  const int row_in_block = static_cast<int>(row % kTileRows);
  const int64_t first = partition.first_slot(block), last = partition.last_slot(block);
  const RowStatistics all = combine_statistics(merge.partials, first, last, row_in_block);
  const float base = finite_base(all.maximum);
  const float log_sum_exp = base + logf(all.sum);

  const float* table = merge.tables + view * pairs.table_size();
  const float* along_t = pairs.overlaps(table, 0, row % cells);
  const float* along_y = pairs.overlaps(table, 1, row % cells);
  const float* along_x = pairs.overlaps(table, 2, row % cells);
  // 32 bits, and loops that are not unrolled: with more this kernel spilled registers on sm_90
  const int cells_t = static_cast<int>(pairs.key_grid.cells[0]), cells_y = static_cast<int>(pairs.key_grid.cells[1]),
            cells_x = static_cast<int>(pairs.key_grid.cells[2]);
  float sums[kExtentAxes] = {0.0f, 0.0f, 0.0f};
  for (int t = 0; t < cells_t; ++t) sums[0] += along_t[t];
  for (int y = 0; y < cells_y; ++y) sums[1] += along_y[y];
  for (int x = 0; x < cells_x; ++x) sums[2] += along_x[x];
  const float weight = sums[0] * sums[1] * sums[2];

  if (merge.difference != nullptr) {
    const float scale = weight / (merge.partials.weight_scale * all.sum);
    combine_expected<true>(merge.partials, first, last, row_in_block, base, [&](int64_t d, float total) {
      if (d < merge.dim) merge.difference[row * merge.dim + d] = scale * total;
    });
  }
  // The cells of its own video: a warp takes a logit, then a thread a feature.
  const int own_cells = cells_t * cells_y * cells_x;
  const auto* keys = static_cast<const Element*>(merge.key) + view / pairs.views * own_cells * merge.dim;
  const StoredValues query = merge.query.from(row * merge.dim);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float lost = 0.0f;
  for (int begin = 0; begin < own_cells; begin += kCellsAtOnce) {
    const int count = min(kCellsAtOnce, own_cells - begin);
#pragma unroll 1
    for (int cell = warp; cell < count; cell += kMergeWarps) {
      const int place = begin + cell, y = place / cells_x % cells_y;
      const float share = along_t[place / cells_x / cells_y] * along_y[y] * along_x[place % cells_x];
      if (share == 0.0f && merge.difference == nullptr) continue;
      const Element* key = keys + place * merge.dim;
      float logit = 0.0f;
      for (int64_t d = lane; d < merge.dim; d += 32)
        logit = fmaf(query.in_products<Element>(d), device_widen(key[d]), logit);
      logit = warp_sum(logit) * merge.temperature.read_inverse();
      if (lane == 0) {
        coefficient[cell] = weight * exp_approximate(logit - log_sum_exp) - share;
        if (share != 0.0f) lost += share * (log_sum_exp - logit);
      }
    }
    if (merge.difference == nullptr) continue;
    __syncthreads();
    for (int64_t d = threadIdx.x; d < merge.dim; d += kMergeThreads) {
      float total = 0.0f;
      const Element* key = keys + begin * merge.dim + d;
      for (int cell = 0; cell < count; ++cell, key += merge.dim) {
        total = fmaf(coefficient[cell], device_widen(*key), total);
      }
      merge.difference[row * merge.dim + d] += total;
    }
    __syncthreads();  // the coefficients are written again
  }
  lost = block_sum(lost, scratch);
  if (threadIdx.x == 0) {
    merge.log_sum_exp[row] = log_sum_exp;
    merge.weight[row] = weight;
    merge.row_loss[row] = lost + 0.0f * log_sum_exp;  // no targets, and yet a row that is no number is seen
  }
  if (last_block(merge.counter)) {
    float total = 0.0f;
    for (int64_t index = threadIdx.x; index < pairs.rows(); index += kMergeThreads)
      total += __ldcg(merge.row_loss + index);
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) *merge.loss = total / static_cast<float>(pairs.rows());
  }
}

__global__ void __launch_bounds__(256)
    region_describe_kernel(const __grid_constant__ RegionContrastBackward args, DescribedQuery* queries) {
  const int64_t row = blockIdx.x * int64_t{256} + threadIdx.x;
  if (row < args.pairs.rows()) {
    queries[row] = {static_cast<const float*>(args.log_sum_exp)[row], static_cast<const float*>(args.weight)[row]};
  }
}

__device__ __forceinline__ float gradient_scale(const RegionContrastBackward& args, const StoredGradients& gradients) {
  return gradients.loss[0] / (static_cast<float>(args.pairs.rows()) * args.temperature.read());
}

__global__ void __launch_bounds__(128)
    region_query_gradient_kernel(const __grid_constant__ RegionContrastBackward args, const StoredGradients gradients) {
  const float scale = gradient_scale(args, gradients);
  for (int64_t d = threadIdx.x; d < args.dim; d += blockDim.x) {
    const int64_t place = blockIdx.x * args.dim + d;
    gradients.query.set(place, scale * static_cast<const float*>(args.expected_difference)[place]);
  }
}

// A block per key cell.
__global__ void __launch_bounds__(kMergeThreads)
    region_key_merge_kernel(const __grid_constant__ RegionContrastBackward args, const StoredGradients gradients,
                            const __grid_constant__ Partials partials, int64_t workers) {
  const int64_t row = blockIdx.x, block = row / kTileRows;
  const Partition partition(args.pairs.columns(), column_tiles(args.pairs.rows()), workers);
  const float scale = gradient_scale(args, gradients) / partials.weight_scale;
  combine_expected<false>(partials, partition.first_slot(block), partition.last_slot(block),
                          static_cast<int>(row % kTileRows), 0.0f, [&](int64_t d, float total) {
                            if (d < args.dim) gradients.key.set(row * args.dim + d, scale * total);
                          });
}

struct Plan {
  Streaming stream{};
  float* tables = nullptr;
  int64_t workers = 0;
  float* row_loss = nullptr;
  DescribedQuery* queries = nullptr;
};

// Lays out the workspace; with a null base only its size is of interest.
template <typename Args>
Plan make_plan(const Args& args, bool transposed, Workspace& workspace) {
  const int64_t rows = transposed ? args.pairs.columns() : args.pairs.rows();
  const int64_t columns = transposed ? args.pairs.rows() : args.pairs.columns();
  Plan plan;
  const bool expected = transposed || args.expected_difference != nullptr;
  plan.workers =
      streaming_workers(row_blocks(rows) * column_tiles(columns), kLeastTiles, args.dim, args.dtype, expected);
  const int64_t places = streaming_slots(rows, plan.workers) * kTileRows;
  plan.tables = workspace.take<float>(args.pairs.batch * args.pairs.views * args.pairs.table_size());
  Streaming& stream = plan.stream;
  const StoredValues query = query_values(args.query, args.types, args.dtype), key{args.key, args.dtype};
  stream.rows = {transposed ? key : query, nullptr, nullptr, rows};
  stream.columns = {transposed ? query : key, nullptr, nullptr, columns};
  stream.dim = args.dim;
  stream.temperature = args.temperature;
  stream.vectors = vectors_possible(args.dtype, args.dim, args.query, args.key);
  stream.partials.padded_dim = padded_dim(args.dim);
  stream.partials.weight_scale = weight_scale_of(args.dtype);
  if (expected) stream.partials.expected = workspace.take<float>(places * stream.partials.padded_dim);
  if (transposed) {
    plan.queries = workspace.take<DescribedQuery>(columns);
  } else {
    stream.partials.maximum = workspace.take<float>(places);
    stream.partials.sum = workspace.take<float>(places);
    stream.counter = workspace.take<int32_t>(1);
    plan.row_loss = workspace.take<float>(rows);
  }
  return plan;
}

cudaError_t make_tables(const RegionPairs& pairs, float* tables, cudaStream_t stream) {
  const int64_t size = pairs.batch * pairs.views * pairs.table_size();
  return launch(region_overlaps_kernel, grid_of((size + 255) / 256), dim3(256), 0, stream, pairs, tables);
}

}  // namespace

size_t region_contrast_workspace_bytes(const RegionContrastForward& args) {
  if (args.pairs.rows() == 0) return 0;
  Workspace sizes(nullptr);
  make_plan(args, false, sizes);
  return sizes.bytes();
}

size_t region_contrast_backward_workspace_bytes(const RegionContrastBackward& args) {
  if (args.pairs.rows() == 0 || args.grad_key == nullptr) return 0;
  Workspace sizes(nullptr);
  make_plan(args, true, sizes);
  return sizes.bytes();
}

cudaError_t region_contrast_forward_cuda(const RegionContrastForward& args, void* workspace, cudaStream_t stream) {
  const int64_t rows = args.pairs.rows();
  if (rows == 0) return cudaMemsetAsync(args.loss, 0, sizeof(float), stream);
  Workspace memory(workspace);
  const Plan plan = make_plan(args, false, memory);
  cudaError_t error = make_tables(args.pairs, plan.tables, stream);
  if (error != cudaSuccess) return error;
  error =
      launch_streaming_softmax(args.dtype, args.tf32, plan.stream,
                               AllCells{args.pairs.rows_of_video(), args.pairs.key_grid.count()}, plan.workers, stream);
  if (error != cudaSuccess) return error;
  const Merge merge{args.pairs,
                    plan.stream.partials,
                    plan.workers,
                    args.dim,
                    plan.stream.rows.values,
                    args.key,
                    plan.tables,
                    args.temperature,
                    plan.stream.counter,
                    plan.row_loss,
                    static_cast<float*>(args.loss),
                    static_cast<float*>(args.log_sum_exp),
                    static_cast<float*>(args.weight),
                    static_cast<float*>(args.expected_difference)};
  return with_element(args.dtype, [&](auto element) {
    return launch(region_contrast_merge_kernel<decltype(element)>, grid_of(rows), dim3(kMergeThreads), 0, stream,
                  merge);
  });
}

cudaError_t region_contrast_backward_cuda(const RegionContrastBackward& args, void* workspace, cudaStream_t stream) {
  const int64_t rows = args.pairs.rows(), columns = args.pairs.columns();
  const StoredGradients gradients = StoredGradients::of(args);
  if (rows == 0) {
    if (args.grad_key == nullptr || columns == 0) return cudaSuccess;
    return cudaMemsetAsync(args.grad_key, 0, columns * args.dim * size_of(gradients.key.dtype), stream);
  }
  if (args.grad_query != nullptr) {
    const cudaError_t error =
        launch(region_query_gradient_kernel, grid_of(rows), dim3(128), 0, stream, args, gradients);
    if (error != cudaSuccess) return error;
  }
  if (args.grad_key == nullptr) return cudaSuccess;
  Workspace memory(workspace);
  const Plan plan = make_plan(args, true, memory);
  cudaError_t error = make_tables(args.pairs, plan.tables, stream);
  if (error != cudaSuccess) return error;
  error = launch(region_describe_kernel, grid_of((rows + 255) / 256), dim3(256), 0, stream, args, plan.queries);
  if (error != cudaSuccess) return error;
  error = launch_streaming_softmax(args.dtype, args.tf32, plan.stream,
                                   QueryCells{args.pairs, plan.tables, plan.queries}, plan.workers, stream);
  if (error != cudaSuccess) return error;
  return launch(region_key_merge_kernel, grid_of(columns), dim3(kMergeThreads), 0, stream, args, gradients,
                plan.stream.partials, plan.workers);
}

}  // namespace motionops
