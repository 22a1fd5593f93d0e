// The main loop of every contrastive loss on the GPU: rows against columns, the logits never stored.
//
// How it is parallelised. A CTA of four warps takes 64 rows and a run of 64-column tiles (Partition in
// streaming_partials.cuh: the tiles of all row blocks are dealt evenly to 2 CTAs per multiprocessor, so the columns are
// split as far as there are multiprocessors to fill). Per tile:
//   scores   = rows . columns^T, 32x32 per warp, in registers
//   weights  = e^(logit - running maximum), after the policy has struck out columns; maximum, sum and rank stay in
//              registers
//   expected = expected * correction + weights . columns, accumulated in registers, from the tile that is in shared
//              memory
// so one read of the columns gives the loss and the rows' gradient. Two warps share 32 rows, each with statistics of its
// own over half of the columns, and fold them together at the end of the run. What a CTA found goes to workspace; a merge
// kernel of the operator folds the CTAs together.
// Embeddings are worked on in chunks of 128 elements. With one chunk, the rows stay in shared memory and the columns pass
// through up to three buffers; with more, chunks of both pass through up to two, and grid.z CTAs each own one chunk of
// `expected`: each visits all chunks for the scores and its own last, when it is at hand for the second product.
//
// What limits it on Hopper (predicted, in cycles of a multiprocessor a tile of D = 128; measured were 1.3 to 1.8 times the
// largest before warps had 32 rows):
//   16-bit    1080 of products by mma.sync, 900 of shared memory (112 KB), 700 of issue, 1265 to read the tile from memory
//             where there is one row block: queue_infonce, B = 64, K = 2^20, takes what reading the queue takes. At
//             K = 65536 a CTA has four tiles, and its start, its partials (8.7 MB of all, within L2) and the merge count.
//   tf32      2200 of products, 1800 of shared memory, 1900 of issue
//   float32   10300 of issue, 8192 of them FFMA, and 9500 of shared memory, whose lanes read 12 words for 32 products
// Two CTAs are resident: with 72 KB each for 16-bit types, up to 64 KB are in flight per multiprocessor against the 33 KB
// that bandwidth times latency asks for. 32-bit types have two buffers where 227 KB hold two such CTAs, otherwise one.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "contrast/streaming_partials.cuh"
#include "contrast/streaming_policy.cuh"
#include "contrast/temperature.h"
#include "contrast/tile_load.cuh"
#include "core/cp_async.h"
#include "core/dependent_launch.h"
#include "core/device_types.h"
#include "core/dtype.h"
#include "core/launch.h"
#include "core/matrix_tile.h"
#include "core/warp.h"

namespace motionops {

struct Streaming {
  RowSource rows;
  RowSource columns;          // the first columns
  StoredValues more_columns;  // [more_rows, D], the others, or null
  int64_t more_rows;
  StoredValues own_keys;  // [rows, D], where the policy has own keys
  int64_t dim;            // D
  Temperature temperature;
  bool vectors;      // every row starts on 16 bytes
  int stages;        // buffers for columns
  int32_t* counter;  // set to zero for the merge kernel's last_block, or null
  Partials partials;
};

namespace streaming {

inline constexpr int kStagesOneChunk = 3;
inline constexpr int kStagesManyChunks = 2;

__host__ __device__ __forceinline__ int chunks_of(int64_t dim) {
  return static_cast<int>((dim + kTileElements - 1) / kTileElements);
}

// The barrier that makes a loaded tile visible to all warps, and lets the buffer of the tile before it be filled again.
// Tests take it away to see that its absence is noticed.
__device__ __forceinline__ void tile_barrier() {
#ifndef MOTIONOPS_TEST_WITHOUT_TILE_BARRIER
  __syncthreads();
#endif
}

// What is known of the rows of a block, in shared memory: few tiles ask, and registers are wanted for sums.
template <typename Policy>
struct AboutRows {
  typename Policy::Block block;
  typename Policy::Row rows[kTileRows];
  float positives[kTileRows];  // products with own keys
};

template <typename Arithmetic, typename Policy>
class RowBlock {
 public:
  using Element = typename Arithmetic::Element;
  using Column = typename ColumnOf<Policy>::type;
  using Row = typename Policy::Row;
  using Block = typename Policy::Block;
  using Scores = typename Arithmetic::Scores;
  static constexpr int kRows = Arithmetic::kRows, kColumns = Arithmetic::kColumns, kSums = Arithmetic::kSums;

  __device__ __forceinline__ RowBlock(const Streaming& stream, const Policy& policy, int number)
      : stream_(stream), policy_(policy), number_(number), chunks_(chunks_of(stream.dim)) {
    query_tiles_ = dynamic_shared_memory();
    key_tiles_ = query_tiles_ + (chunks_ == 1 ? 1 : stream.stages) * kBytes;
    column_info_ = reinterpret_cast<Column*>(key_tiles_ + stream.stages * kBytes);
    about_ = reinterpret_cast<AboutRows<Policy>*>(column_info_ + stream.stages * kTileRows);
    if (threadIdx.x < kTileRows) {
      about_->rows[threadIdx.x] = policy.row(stream.rows.row(min(first_row() + threadIdx.x, last_row())));
    }
    if (threadIdx.x == 0) about_->block = block();
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      maximum_[i] = -INFINITY;
      sum_[i] = 0.0f;
      rank_[i] = 0;
#pragma unroll
      for (int s = 0; s < kSums; ++s) expected_[i][s] = 0.0f;
    }
  }

  __device__ __forceinline__ Block block() const {
    return policy_.block(stream_.rows.row(first_row()), stream_.rows.row(last_row()));
  }

  // Goes over the columns `range` (whole tiles, but for the last of all).
  __device__ __forceinline__ void run(ColumnRange range) {
    const int tiles = static_cast<int>((range.end - range.begin + kTileRows - 1) / kTileRows);
    const int ahead = stream_.stages - 1;
    Position work{HasOwnKeys<Policy> ? -1 : 0, 0, 0};
    if (chunks_ == 1) {
      load_queries(query_tiles_, 0);
      commit_copies();  // a group of its own, which is waited for even where no tile follows
    }
    Scores scores;
    for (int before = ahead; work.tile < tiles;) {  // so many loads before the first tile
      if (before == 0) {
        if (ahead == 2) {
          wait_copies<1>();
        } else {
          wait_copies<0>();
        }
        tile_barrier();
      }
      const Position load = later(work, ahead - before);
      if (load.tile < tiles) load_step(load, range);
      commit_copies();
      if (before > 0) {
        --before;
        continue;
      }
      if (ahead == 0) {  // the only buffer: another CTA works meanwhile
        wait_copies<0>();
        tile_barrier();
      }
      if (work.chunk == 0) clear(scores);
      const unsigned char* keys = key_tiles_ + work.buffer * kBytes;
      const unsigned char* queries = chunks_ == 1 ? query_tiles_ : query_tiles_ + work.buffer * kBytes;
      const int elements = chunk_elements(chunk_of(work.chunk));
      const bool own = HasOwnKeys<Policy> && work.tile < 0;
      Arithmetic::scores(queries, keys, elements, own, scores);
      if (work.chunk == chunks_ - 1) {
        if (own) {
          take_positives(scores);
        } else {
          to_weights(scores, range.begin + int64_t{work.tile} * kTileRows, range.end,
                     column_info_ + work.buffer * kTileRows);
          if (stream_.partials.expected != nullptr) Arithmetic::accumulate(scores, keys, elements, expected_);
        }
      }
      work = later(work, 1);
    }
  }

  __device__ __forceinline__ void store(int slot) {
    using Run = Pack<float, Arithmetic::kSumRun>;
    leave_second_columns();
    if (second_columns()) return;
    const Partials& partials = stream_.partials;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      join_columns(i);
      const int64_t place = int64_t{slot} * kTileRows + Arithmetic::row(i);
      if constexpr (!HasCoefficients<Policy>) {
        const float sum = lanes_sum<Arithmetic::kRowLanes>(sum_[i]);
        const int rank = HasOwnKeys<Policy> ? lanes_sum<Arithmetic::kRowLanes>(rank_[i]) : 0;
        if (threadIdx.x % Arithmetic::kRowLanes == 0 && blockIdx.z == 0) {
          partials.maximum[place] = maximum_[i];
          partials.sum[place] = sum;
          if constexpr (HasOwnKeys<Policy>) {
            partials.positive[place] = about_->positives[Arithmetic::row(i)];
            partials.rank[place] = rank;
          }
        }
      }
      if (partials.expected != nullptr) {
        float* out = partials.expected + place * partials.padded_dim;
#pragma unroll
        for (int s = 0; s < kSums; s += Arithmetic::kSumRun) {
          const int64_t d = blockIdx.z * int64_t{kTileElements} + Arithmetic::sum_column(s);
          Run run;
#pragma unroll
          for (int k = 0; k < Arithmetic::kSumRun; ++k) run.values[k] = expected_[i][s + k];
          if (d < partials.padded_dim) *reinterpret_cast<Run*>(out + d) = run;
        }
      }
    }
  }

 private:
  static constexpr int kBytes = kTileBytes<Element>;

  __device__ __forceinline__ int64_t first_row() const { return int64_t{number_} * kTileRows; }
  __device__ __forceinline__ int64_t last_row() const { return min(first_row() + kTileRows, stream_.rows.count()) - 1; }

  struct Position {
    int tile;
    int chunk;
    int buffer;
  };

  __device__ __forceinline__ Position later(Position position, int steps) const {
    for (int step = 0; step < steps; ++step) {
      if (++position.chunk == chunks_) {
        position.chunk = 0;
        ++position.tile;
      }
      if (++position.buffer == stream_.stages) position.buffer = 0;
    }
    return position;
  }

  // The CTA's own chunk is visited last, so that it is in shared memory for the second product.
  __device__ __forceinline__ int chunk_of(int order) const {
    const int chunk = static_cast<int>(blockIdx.z) + 1 + order;
    return chunk < chunks_ ? chunk : chunk - chunks_;
  }

  __device__ __forceinline__ int chunk_elements(int chunk) const {
    const int64_t left = stream_.dim - int64_t{chunk} * kTileElements;
    return left < kTileElements ? static_cast<int>(left + 15) / 16 * 16 : kTileElements;
  }

  __device__ __forceinline__ void load_queries(unsigned char* tile, int chunk) const {
    const StoredValues values = stream_.rows.values;
    const auto offset = [&](int row) -> int64_t {
      const int64_t index = first_row() + row;
      return index < stream_.rows.count() ? stream_.rows.row(index) * stream_.dim : -1;
    };
    fill_tile(
        tile, chunk, values.dtype == kDtypeOf<Element>, nullptr,
        [&](int row) -> const void* {
          const int64_t begin = offset(row);
          return begin < 0 ? nullptr : static_cast<const Element*>(values.data) + begin;
        },
        [&](int row) {
          const int64_t begin = offset(row);
          return begin < 0 ? StoredValues{nullptr, values.dtype} : values.from(begin);
        });
  }

  __device__ __forceinline__ void load_step(const Position& position, ColumnRange range) const {
    const int chunk = chunk_of(position.chunk);
    if (chunks_ > 1) load_queries(query_tiles_ + position.buffer * kBytes, chunk);
    const bool own = HasOwnKeys<Policy> && position.tile < 0;
    const int64_t first_column = own ? first_row() : range.begin + int64_t{position.tile} * kTileRows;
    const int64_t first_rows = own ? stream_.rows.count() : stream_.columns.count();
    const int64_t end = own ? first_rows : range.end;
    const StoredValues values = own ? stream_.own_keys : stream_.columns.values, more = stream_.more_columns;
    const auto offset = [&](int64_t column) {
      const int64_t index = column >= first_rows ? column - first_rows : own ? column : stream_.columns.row(column);
      return index * stream_.dim;
    };
    const auto pointer = [&](int row) -> const void* {
      const int64_t column = first_column + row;
      if (column >= end) return nullptr;
      return static_cast<const Element*>(column >= first_rows ? more.data : values.data) + offset(column);
    };
    const auto stored = [&](int row) -> StoredValues {
      const int64_t column = first_column + row;
      if (column >= end) return {nullptr, values.dtype};
      const bool second = column >= first_rows;  // member by member: chosen as a whole they would lie in memory
      return StoredValues{second ? more.data : values.data, second ? more.dtype : values.dtype}.from(offset(column));
    };
    const bool some_more = min(first_column + kTileRows, end) > first_rows, all_more = first_column >= first_rows;
    const bool as_products =
        (all_more || values.dtype == kDtypeOf<Element>) && (!some_more || more.dtype == kDtypeOf<Element>);
    const void* together = nullptr;
    if (own || stream_.columns.list == nullptr) {
      if (first_column + kTileRows <= (all_more ? end : min(end, first_rows))) together = pointer(0);
    }
    fill_tile(key_tiles_ + position.buffer * kBytes, chunk, as_products, together, pointer, stored);
    if constexpr (HasColumns<Policy>) {
      const Column* columns = policy_.columns();
      if (columns != nullptr && !own && threadIdx.x < kTileRows) {
        const int64_t column = first_column + threadIdx.x;
        const bool valid = column < policy_.described_columns();
        copy_async<sizeof(Column)>(column_info_ + position.buffer * kTileRows + threadIdx.x,
                                   columns + (valid ? column : 0), valid);
      }
    }
  }

  // Rows that are `as_products`, of the products' type, are copied; others are rounded. `pointer` and `stored` name a row.
  template <typename RowPointer, typename StoredRow>
  __device__ __forceinline__ void fill_tile(unsigned char* tile, int chunk, bool as_products, const void* together,
                                            RowPointer pointer, StoredRow stored) const {
    const int64_t first = int64_t{chunk} * kTileElements;
    if (as_products) {
      load_tile<Element>(tile, pointer, together, stream_.rows.values.data, first, chunk_elements(chunk), stream_.dim,
                         stream_.vectors);
    } else {
      round_tile<Element>(tile, stored, first, chunk_elements(chunk), stream_.dim);
    }
  }

  static __device__ __forceinline__ void clear(Scores& scores) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) scores[i][c] = 0.0f;
    }
  }

  // The diagonal of rows . own keys. One lane of those that share a row has it; the others add zero.
  __device__ __forceinline__ void take_positives(const Scores& scores) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      float mine = 0.0f;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        if (Arithmetic::own_column(c) == Arithmetic::row(i)) mine = scores[i][c];
      }
      const float positive = lanes_sum<Arithmetic::kRowLanes>(mine);
      if (threadIdx.x % Arithmetic::kRowLanes == 0 && !second_columns()) {
        about_->positives[Arithmetic::row(i)] = positive;
      }
    }
  }

  // Turns the scores of a tile into weights, in place.
  __device__ __forceinline__ void to_weights(Scores& scores, int64_t first_column, int64_t end, const Column* info) {
    if constexpr (!HasCoefficients<Policy>) {
      strike_out(scores, first_column, end, info);
      to_exponentials(scores, first_column);
    } else {
      to_coefficients(scores, first_column, end, info);
    }
  }

  __device__ __forceinline__ void to_coefficients(Scores& scores, int64_t first_column, int64_t end,
                                                  const Column* info) const {
    const float inverse_temperature = stream_.temperature.read_inverse();
    // Decided once a tile: most have no pair of a kind of its own, and a test in each of 32 elements costs more than the
    // elements.
    if constexpr (requires { policy_.alike(about_->block, first_column, end); }) {
      if (first_column + kTileRows <= end && policy_.alike(about_->block, first_column, first_column + kTileRows)) {
#pragma unroll
        for (int c = 0; c < kColumns; ++c) {
          const Column column = info[Arithmetic::column(c)];
#pragma unroll
          for (int i = 0; i < kRows; ++i) {
            const float logit = scores[i][c] * inverse_temperature;
            scores[i][c] = policy_.coefficient(column, logit) * Arithmetic::kWeightScale;
          }
        }
        return;
      }
    }
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const Row& row = about_->rows[Arithmetic::row(i)];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int offset = Arithmetic::column(c);
        const bool counts = first_column + offset < end;
        const float logit = scores[i][c] * inverse_temperature;
        scores[i][c] =
            counts ? policy_.coefficient(row, first_column + offset, info[offset], logit) * Arithmetic::kWeightScale
                   : 0.0f;
      }
    }
  }

  __device__ __forceinline__ void strike_out(Scores& scores, int64_t first_column, int64_t end,
                                             const Column* info) const {
    bool some = first_column + kTileRows > end;
    if constexpr (HasMasks<Policy>) some = some || policy_.masks(about_->block, first_column, first_column + kTileRows);
    if (!some) return;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int64_t column = first_column + Arithmetic::column(c);
      const Column about = described() ? info[Arithmetic::column(c)] : Column{};
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        bool counts = column < end;
        if constexpr (HasMasks<Policy> && HasColumns<Policy>) {
          counts = counts && policy_.counts(about_->rows[Arithmetic::row(i)], column, about);
        } else if constexpr (HasMasks<Policy>) {
          counts = counts && policy_.counts(about_->rows[Arithmetic::row(i)], column);
        }
        if (!counts) scores[i][c] = -INFINITY;
      }
    }
  }

  __device__ __forceinline__ bool described() const {
    if constexpr (HasColumns<Policy>) return policy_.columns() != nullptr;
    return false;
  }

  // Weights relative to the running maximum, and the running statistics.
  __device__ __forceinline__ void to_exponentials(Scores& scores, int64_t first_column) {
    const float inverse_temperature = stream_.temperature.read_inverse();
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      float maximum = maximum_[i];
      const float positive = HasOwnKeys<Policy> ? about_->positives[Arithmetic::row(i)] : 0.0f;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        if constexpr (HasOwnKeys<Policy>) rank_[i] += scores[i][c] > positive;
        scores[i][c] *= inverse_temperature;
        maximum = fmaxf(maximum, scores[i][c]);  // a NaN shows in the sum
      }
      maximum = lanes_max<Arithmetic::kRowLanes>(maximum);
      const float base = finite_base(maximum), correction = exp_approximate(maximum_[i] - base);
      maximum_[i] = maximum;
      float sum = 0.0f;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        float& weight = scores[i][c];
        weight = exp_approximate(weight - base);
        sum += weight;
        if constexpr (Arithmetic::kWeightScale != 1.0f) weight *= Arithmetic::kWeightScale;
      }
      sum_[i] = sum_[i] * correction + sum;
      // After the first tiles the maximum seldom moves, and all rows of a warp can be left as they are.
      if (stream_.partials.expected != nullptr && __any_sync(kAllLanes, correction != 1.0f)) {
#pragma unroll
        for (int s = 0; s < kSums; ++s) expected_[i][s] *= correction;
      }
    }
    if constexpr (requires { policy_.withholds(about_->block, first_column, first_column); }) {
      if (policy_.withholds(about_->block, first_column, first_column + kTileRows)) {
#pragma unroll
        for (int i = 0; i < kRows; ++i) {
          const Row row = about_->rows[Arithmetic::row(i)];
#pragma unroll
          for (int c = 0; c < kColumns; ++c) {
            if (policy_.withholds(row, first_column + Arithmetic::column(c))) scores[i][c] = 0.0f;
          }
        }
      }
    }
  }

  // Whether this warp's rows are also those of the warp before it, which stores what both found.
  static __device__ __forceinline__ bool second_columns() { return threadIdx.x / 32 % 2 != 0; }

  // What the second of two warps found in its columns goes through the memory of the tiles: row after row of each lane its
  // maximum, sum, rank and sums.
  __device__ __forceinline__ float* left_behind(int i) const {
    constexpr int kPlaces = kTileThreads / 2;
    static_assert(kRows * (3 + kSums) * kPlaces * sizeof(float) <= 2 * kTileBytes<float>);  // two, or four of 16 bits
    return reinterpret_cast<float*>(query_tiles_) +
           (i * (3 + kSums) * kPlaces + threadIdx.x / 64 * 32 + threadIdx.x % 32);
  }

  __device__ __forceinline__ void leave_second_columns() const {
    constexpr int kPlaces = kTileThreads / 2;
    wait_copies<0>();
    __syncthreads();  // the tiles are no longer read
    if (second_columns()) {
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        float* place = left_behind(i);
        place[0] = maximum_[i];
        place[kPlaces] = sum_[i];
        place[2 * kPlaces] = __int_as_float(rank_[i]);
        if (stream_.partials.expected == nullptr) continue;
#pragma unroll
        for (int s = 0; s < kSums; ++s) place[(3 + s) * kPlaces] = expected_[i][s];
      }
    }
    __syncthreads();
  }

  __device__ __forceinline__ void join_columns(int i) {
    constexpr int kPlaces = kTileThreads / 2;
    const float* place = left_behind(i);
    float mine = 1.0f, other = 1.0f;
    if constexpr (!HasCoefficients<Policy>) {
      const float maximum = fmaxf(maximum_[i], place[0]), base = finite_base(maximum);
      mine = exp_approximate(maximum_[i] - base);
      other = exp_approximate(place[0] - base);
      maximum_[i] = maximum;
      sum_[i] = sum_[i] * mine + place[kPlaces] * other;
      rank_[i] += __float_as_int(place[2 * kPlaces]);
    }
    if (stream_.partials.expected == nullptr) return;
#pragma unroll
    for (int s = 0; s < kSums; ++s) expected_[i][s] = expected_[i][s] * mine + place[(3 + s) * kPlaces] * other;
  }

  const Streaming& stream_;
  const Policy& policy_;
  int number_;
  int chunks_;
  unsigned char* query_tiles_;
  unsigned char* key_tiles_;
  Column* column_info_;
  AboutRows<Policy>* about_;
  float maximum_[kRows];
  float sum_[kRows];
  int rank_[kRows];
  typename Arithmetic::Sums expected_;
};

template <typename Arithmetic, typename Policy>
__global__ void __launch_bounds__(kTileThreads, 2)
    streaming_softmax_kernel(const __grid_constant__ Streaming stream, const __grid_constant__ Policy policy) {
  if (stream.counter != nullptr && blockIdx.x == 0 && blockIdx.z == 0 && threadIdx.x == 0) *stream.counter = 0;
  const auto column_count = [&] { return stream.columns.count() + stream.more_rows; };
  bool local = false;
  if constexpr (HasRanges<Policy>) local = policy.local();
  const Partition partition(stream.rows.count(), local ? 1 : column_tiles(column_count()), gridDim.x);
  if (blockIdx.x >= partition.workers) return;
  const int64_t begin = partition.first_tile(blockIdx.x);
  const int tiles = static_cast<int>(partition.tiles);
  int left = static_cast<int>(partition.first_tile(blockIdx.x + 1) - begin);
  int block = static_cast<int>(begin / tiles), first_tile = static_cast<int>(begin % tiles);
  while (left > 0) {
    const int count = min(tiles - first_tile, left);
    left -= count;
    RowBlock<Arithmetic, Policy> rows(stream, policy, block);
    ColumnRange range{int64_t{first_tile} * kTileRows, min(int64_t{first_tile + count} * kTileRows, column_count())};
    if constexpr (HasRanges<Policy>) {
      if (local) range = policy.range(rows.block());
    }
    rows.run(range);
    if (left == 0) let_dependents_start();
    rows.store(static_cast<int>(blockIdx.x) + block);
    if (left > 0) __syncthreads();  // the next row block's first loads go where slower warps may still read
    ++block;
    first_tile = 0;
  }
}

struct Shape {
  int chunks;
  int stages;
  size_t shared_bytes;
};

template <typename Policy>
Shape shape_of(Dtype dtype, int64_t dim) {
  const bool wide = dtype == Dtype::kFloat32;
  const size_t tile = wide ? kTileBytes<float> : kTileBytes<__half>;
  Shape shape{};
  shape.chunks = chunks_of(dim);
  const auto bytes = [&](int stages) {
    return (stages + (shape.chunks == 1 ? 1 : stages)) * tile +
           stages * kTileRows * sizeof(typename ColumnOf<Policy>::type) + sizeof(AboutRows<Policy>);
  };
  shape.stages = shape.chunks == 1 ? kStagesOneChunk : kStagesManyChunks;
  // 32-bit tiles are as large as two, and a tile's work as long as its load: as many as leave room for a second CTA.
  if (wide) {
    constexpr size_t kReserved = 1024;  // by CUDA, of each CTA
    shape.stages = 2 * (bytes(2) + kReserved) <= shared_memory_of_a_block() + kReserved ? 2 : 1;
  }
  shape.shared_bytes = bytes(shape.stages);
#ifdef MOTIONOPS_TEST_SHARED_BYTES_MISSING
  shape.shared_bytes -= MOTIONOPS_TEST_SHARED_BYTES_MISSING;  // tests see that the overrun is noticed
#endif
  return shape;
}

}  // namespace streaming

inline int64_t padded_dim(int64_t dim) { return (dim + 7) / 8 * 8; }

// How many CTAs, per chunk of the output, share `tiles` tiles, of all row blocks together: as many as are resident at
// once, but no more than leaves each `least` of them.
inline int64_t streaming_workers(int64_t tiles, int64_t least, int64_t dim, bool expected) {
  const int chunks = expected ? streaming::chunks_of(dim) : 1;
  const int64_t resident = std::max<int64_t>(2 * multiprocessor_count() / chunks, 1);
  return std::max<int64_t>(std::min(resident, tiles / least), 1);
}

// A worker with fewer tiles than this would not repay the partial result that it writes.
inline constexpr int64_t kLeastTiles = 2;

// Slots of partial results that `workers` may fill.
inline int64_t streaming_slots(int64_t rows, int64_t workers) { return workers + row_blocks(rows); }

inline float weight_scale_of(Dtype dtype) { return dtype == Dtype::kFloat16 ? Float16Arithmetic::kWeightScale : 1.0f; }

// Whether rows of `dim` elements can be copied 16 bytes at a time from each of these addresses (null is no address).
template <typename... Pointers>
bool vectors_possible(Dtype dtype, int64_t dim, Pointers... pointers) {
  const int64_t bytes = dtype == Dtype::kFloat32 ? 4 : 2;
  return dim * bytes % 16 == 0 && ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

// Runs the main loop with `workers` CTAs for each chunk. stream.stages is set here.
template <typename Policy>
cudaError_t launch_streaming_softmax(Dtype dtype, bool tf32, Streaming stream, const Policy& policy, int64_t workers,
                                     cudaStream_t cuda_stream) {
  const streaming::Shape shape = streaming::shape_of<Policy>(dtype, stream.dim);
  stream.stages = shape.stages;
  const dim3 grid = grid_of(workers, stream.partials.expected != nullptr ? shape.chunks : 1);
  const auto start = [&](auto arithmetic) {
    return launch(streaming::streaming_softmax_kernel<decltype(arithmetic), Policy>, grid, dim3(kTileThreads),
                  shape.shared_bytes, cuda_stream, stream, policy);
  };
  switch (dtype) {
    case Dtype::kBFloat16:
      return start(Bfloat16Arithmetic{});
    case Dtype::kFloat16:
      return start(Float16Arithmetic{});
    case Dtype::kFloat32:
      return tf32 ? start(Tf32Arithmetic{}) : start(Float32Arithmetic{});
    default:
      return cudaErrorInvalidValue;  // float64 is for the CPU
  }
}

}  // namespace motionops
