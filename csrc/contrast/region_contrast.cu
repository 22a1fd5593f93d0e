// region_contrast on the GPU: the streaming softmax of all rows over all columns, where every column counts, a merge, and a
// kernel that adds what a row's own video does in float32. A table of per-axis overlaps stands for S.
// The transposed pass recomputes p from the saved log-sum-exp and takes S off where the two cells are of one video.
#include "contrast/region_contrast.h"

#include "contrast/feature_element.cuh"
#include "contrast/streaming_softmax.cuh"
#include "core/device_types.h"
#include "core/workspace.h"

namespace motionops {
namespace {

// Every cell counts, but those of a row's own video are withheld from its expected key: what they add, W p - S, is formed
// as one number by a kernel of their own. Weights rounded to 16 bits would not cancel with the targets as they do once a
// network has learnt: 6 % of a confident bfloat16 gradient was rounding.
struct AllCells {
  struct Row {
    int64_t first, last;  // the key cells of its video
  };
  using Block = Row;  // of all its rows' videos

  int64_t rows_of_video;
  int64_t columns_of_video;

  __device__ __forceinline__ Row row(int64_t row) const { return block(row, row); }
  __device__ __forceinline__ Block block(int64_t first_row, int64_t last_row) const {
    return {first_row / rows_of_video * columns_of_video, (last_row / rows_of_video + 1) * columns_of_video};
  }
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
  using Column = DescribedQuery;
  struct Row {
    int64_t first;        // of the query cells of its video
    const float* tables;  // of its video's views
    int32_t along[kExtentAxes];
  };
  struct Block {
    int64_t first, last;  // the query cells of its rows' videos
  };

  RegionPairs pairs;
  const float* tables;
  const DescribedQuery* queries;

  __device__ __forceinline__ const DescribedQuery* columns() const { return queries; }
  __device__ __forceinline__ int64_t described_columns() const { return pairs.rows(); }
  __device__ __forceinline__ Row row(int64_t row) const {
    const int64_t cells = pairs.key_grid.count(), video = row / cells;
    Row found{video * pairs.rows_of_video(), tables + video * pairs.views * pairs.table_size(), {}};
#pragma unroll
    for (int axis = 0; axis < kExtentAxes; ++axis) {
      found.along[axis] = static_cast<int32_t>(pairs.key_grid.along(axis, row % cells));
    }
    return found;
  }
  __device__ __forceinline__ Block block(int64_t first, int64_t last) const {
    const int64_t cells = pairs.key_grid.count(), of_video = pairs.rows_of_video();
    return {first / cells * of_video, (last / cells + 1) * of_video};
  }
  __device__ __forceinline__ bool alike(const Block& block, int64_t begin, int64_t end) const {
    return begin >= block.last || end <= block.first;
  }
  __device__ __forceinline__ float coefficient(const DescribedQuery& query, float logit) const {
    return query.weight * exp_approximate(logit - query.log_sum_exp);
  }
  __device__ __forceinline__ float coefficient(const Row& row, int64_t column, const DescribedQuery& query,
                                               float logit) const {
    const float expected = coefficient(query, logit);
    const bool same_video = column >= row.first && column < row.first + pairs.rows_of_video();
    return same_video ? expected - share(row, column) : expected;
  }

 private:
  // S of a query cell and a key cell of one video, whose cells the launcher saw to fit 32 bits.
  __device__ float share(const Row& row, int64_t column) const {
    const Grid& grid = pairs.query_grid;
    const auto cells = static_cast<uint32_t>(grid.count()), cells_y = static_cast<uint32_t>(grid.cells[1]),
               cells_x = static_cast<uint32_t>(grid.cells[2]);
    const auto place = static_cast<uint32_t>(column - row.first);
    const uint32_t view = place / cells, line = (place - view * cells) / cells_x, t = line / cells_y;
    const uint32_t along[kExtentAxes] = {t, line - t * cells_y, place - view * cells - line * cells_x};
    const float* table = row.tables + view * pairs.table_size();
    float product = 1.0f;
#pragma unroll
    for (int axis = 0; axis < kExtentAxes; ++axis) {
      product *= table[pairs.table_begin(axis) + along[axis] * pairs.key_grid.cells[axis] + row.along[axis]];
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

// A block per row: what its CTAs found becomes its log-sum-exp, and the part of its expected difference that lies in other
// videos.
__global__ void __launch_bounds__(kMergeThreads) region_contrast_merge_kernel(const __grid_constant__ Merge merge) {
  const RegionPairs& pairs = merge.pairs;
  const int64_t row = blockIdx.x, block = row / kTileRows, cells = pairs.query_grid.count();
  const Partition partition(pairs.rows(), column_tiles(pairs.columns()), merge.workers);
  const int row_in_block = static_cast<int>(row % kTileRows);
  const int64_t first = partition.first_slot(block), last = partition.last_slot(block);
  const RowStatistics all = combine_statistics(merge.partials, first, last, row_in_block);
  const float base = finite_base(all.maximum);

  const float* table = merge.tables + row / cells * pairs.table_size();
  float weight = 1.0f;
#pragma unroll
  for (int axis = 0; axis < kExtentAxes; ++axis) {
    const float* along = pairs.overlaps(table, axis, row % cells);
    float sum = 0.0f;
#pragma unroll 1
    for (int cell = 0; cell < static_cast<int>(pairs.key_grid.cells[axis]); ++cell) sum += along[cell];
    weight *= sum;
  }
  if (threadIdx.x == 0) {
    merge.log_sum_exp[row] = base + logf(all.sum);
    merge.weight[row] = weight;
  }
  if (merge.difference != nullptr) {
    const float scale = weight / (merge.partials.weight_scale * all.sum);
    combine_expected<true>(merge.partials, first, last, row_in_block, base, [&](int64_t d, float total) {
      if (d < merge.dim) merge.difference[row * merge.dim + d] = scale * total;
    });
  }
}

// A tile of float32 numbers in shared memory, read by columns of four: rows of 68 numbers begin on 16 bytes.
constexpr int kOwnTile = 64, kOwnSlice = 32, kOwnThreads = 256, kOwnStride = kOwnTile + 4;

struct OwnRow {
  const float* along[kExtentAxes];  // its overlaps with the key's cells
  float log_sum_exp, weight;
};

__device__ __forceinline__ void add_outer_product(const float* left, const float* right, float (&sums)[4][4]) {
  const float4 a = *reinterpret_cast<const float4*>(left), b = *reinterpret_cast<const float4*>(right);
  const float rows[4] = {a.x, a.y, a.z, a.w}, columns[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int c = 0; c < 4; ++c) sums[r][c] = fmaf(rows[r], columns[c], sums[r][c]);
  }
}

// What the cells of its own video do to a row, W p - S and the loss, in float32 on the ordinary units: 4 cells D operations
// beside the 4 N D of a row in the main loop. A block takes 64 rows and 64 of their cells at a time, a thread 4 x 4 pairs,
// so that a number which was read from shared memory is used four times.
template <typename Element>
__global__ void __launch_bounds__(kOwnThreads) region_contrast_own_kernel(const __grid_constant__ Merge merge) {
  alignas(16) __shared__ float tile[kOwnTile * kOwnStride];  // [d][row], [d][cell] for the logits, then [cell][d]
  alignas(16) __shared__ float coefficient[kOwnTile * kOwnStride];  // [cell][row]
  __shared__ OwnRow own[kOwnTile];
  __shared__ float scratch[kOwnThreads / 32];
  const RegionPairs& pairs = merge.pairs;
  const int64_t first_row = int64_t{blockIdx.x} * kOwnTile, dim = merge.dim;
  const int64_t last_row = min(first_row + kOwnTile, pairs.rows()) - 1, cells = pairs.query_grid.count();
  const int64_t of_video = pairs.rows_of_video();
  const int column = threadIdx.x % 16 * 4, line = threadIdx.x / 16 * 4;  // of its pairs
  for (int place = threadIdx.x; place <= last_row - first_row; place += kOwnThreads) {
    const int64_t row = first_row + place;
    const float* table = merge.tables + row / cells * pairs.table_size();
    OwnRow& mine = own[place];
#pragma unroll
    for (int axis = 0; axis < kExtentAxes; ++axis) mine.along[axis] = pairs.overlaps(table, axis, row % cells);
    mine.log_sum_exp = merge.log_sum_exp[row];
    mine.weight = merge.weight[row];
  }
  __syncthreads();

  const int cells_y = static_cast<int>(pairs.key_grid.cells[1]), cells_x = static_cast<int>(pairs.key_grid.cells[2]);
  const int64_t own_cells = pairs.key_grid.count();
  float* row_tile = tile;
  float* cell_tile = tile + kOwnSlice * kOwnStride;
  float lost[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (int64_t video = first_row / of_video; video <= last_row / of_video; ++video) {
    const int begin = static_cast<int>(max(video * of_video - first_row, int64_t{0}));  // its rows in the block
    const int end = static_cast<int>(min((video + 1) * of_video, last_row + 1) - first_row);
    const auto* keys = static_cast<const Element*>(merge.key) + video * own_cells * dim;
    for (int64_t first_cell = 0; first_cell < own_cells; first_cell += kOwnTile) {
      const int count = static_cast<int>(min(int64_t{kOwnTile}, own_cells - first_cell));
      float logits[4][4] = {};
      for (int64_t slice = 0; slice < dim; slice += kOwnSlice) {
        for (int place = threadIdx.x; place < kOwnTile * kOwnSlice; place += kOwnThreads) {
          const int index = place / kOwnSlice, d = place % kOwnSlice;
          const bool inside = slice + d < dim;
          row_tile[d * kOwnStride + index] =
              inside && index >= begin && index < end
                  ? merge.query.in_products<Element>((first_row + index) * dim + slice + d)
                  : 0.0f;
          cell_tile[d * kOwnStride + index] =
              inside && index < count ? device_widen(keys[(first_cell + index) * dim + slice + d]) : 0.0f;
        }
        __syncthreads();
#pragma unroll 8
        for (int d = 0; d < kOwnSlice; ++d) {
          add_outer_product(row_tile + d * kOwnStride + line, cell_tile + d * kOwnStride + column, logits);
        }
        __syncthreads();
      }
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const int place = static_cast<int>(first_cell) + column + c, y = place / cells_x, t = y / cells_y;
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          float value = 0.0f;
          if (column + c < count && line + r >= begin && line + r < end) {
            const OwnRow& row = own[line + r];
            const float share = row.along[0][t] * row.along[1][y - t * cells_y] * row.along[2][place - y * cells_x];
            const float logit = logits[r][c] * merge.temperature.read_inverse();
            value = row.weight * exp_approximate(logit - row.log_sum_exp) - share;
            if (share != 0.0f) lost[r] += share * (row.log_sum_exp - logit);
          }
          coefficient[(column + c) * kOwnStride + line + r] = value;
        }
      }
      if (merge.difference == nullptr) continue;
      for (int64_t slice = 0; slice < dim; slice += kOwnTile) {
        for (int place = threadIdx.x; place < kOwnTile * kOwnTile; place += kOwnThreads) {
          const int cell = place / kOwnTile, d = place % kOwnTile;
          tile[cell * kOwnStride + d] =
              cell < count && slice + d < dim ? device_widen(keys[(first_cell + cell) * dim + slice + d]) : 0.0f;
        }
        __syncthreads();
        float sums[4][4] = {};
#pragma unroll 8
        for (int cell = 0; cell < kOwnTile; ++cell) {
          add_outer_product(coefficient + cell * kOwnStride + line, tile + cell * kOwnStride + column, sums);
        }
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          float* out = merge.difference + (first_row + line + r) * dim + slice + column;
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            if (line + r >= begin && line + r < end && slice + column + c < dim) out[c] += sums[r][c];
          }
        }
        __syncthreads();
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int step = 8; step > 0; step /= 2) lost[r] += __shfl_xor_sync(kAllLanes, lost[r], step);
    const int64_t row = first_row + line + r;
    // no targets, and yet a row that is no number is seen
    if (column == 0 && row <= last_row) merge.row_loss[row] = lost[r] + 0.0f * own[line + r].log_sum_exp;
  }
  if (last_block(merge.counter)) {
    float total = 0.0f;
    for (int64_t index = threadIdx.x; index < pairs.rows(); index += kOwnThreads) {
      total += __ldcg(merge.row_loss + index);
    }
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
  plan.workers = streaming_workers(row_blocks(rows) * column_tiles(columns), kLeastTiles, args.dim, expected);
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
  error = launch(region_contrast_merge_kernel, grid_of(rows), dim3(kMergeThreads), 0, stream, merge);
  if (error != cudaSuccess) return error;
  return with_element(args.dtype, [&](auto element) {
    return launch(region_contrast_own_kernel<decltype(element)>, grid_of(row_blocks(rows)), dim3(kOwnThreads), 0,
                  stream, merge);
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
  if (args.pairs.rows_of_video() > UINT32_MAX) return cudaErrorInvalidValue;  // some thousand gigabytes of products
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
