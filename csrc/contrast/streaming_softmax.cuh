// The main loop of every contrastive loss on the GPU: rows against columns, the logits never stored.
//
// How it is parallelised. A CTA of four warps takes 64 rows and a run of 64-column tiles (Partition in
// streaming_partials.cuh: the tiles of all row blocks are dealt evenly to 2 CTAs per multiprocessor, so the columns are
// split as far as there are multiprocessors to fill). Per tile:
//   scores   = rows . columns^T on the matrix units, 16x64 per warp, in registers
//   weights  = e^(logit - running maximum), after the policy has struck out columns; maximum, sum and rank stay in
//              registers
//   expected = expected * correction + weights . columns, accumulated in registers, from the tile that is in shared
//              memory
// so one read of the columns gives the loss and the rows' gradient. What a CTA found goes to workspace; a merge kernel
// of the operator folds the CTAs together.
// Embeddings are worked on in chunks of 256 bytes (128 16-bit, 64 32-bit elements). With one chunk, the rows stay in
// shared memory and the columns pass through three buffers; with more, chunks of both pass through two buffers, and
// grid.z CTAs each own one chunk of `expected`: each visits all chunks for the scores and its own last, when it is at
// hand for the second product.
//
// What limits it on Hopper (predicted). queue_infonce, B = 64, K = 65536, D = 128, bfloat16: 16.8 MB of queue read
// once, 3.9 us at 4.3 TB/s; 2 * 2 * B K D = 2.1 GFLOP, 2.7 us at the full matrix rate, and about twice that with
// mma.sync. The partials are 264 CTAs * 64 rows * 128 floats = 8.7 MB, written and read within L2. With 70 KB of shared
// memory two CTAs are resident, and keep up to 4 tiles (64 KB) in flight per multiprocessor against the 33 KB that
// bandwidth times latency asks for. Larger B only adds arithmetic: from B = 128 on it is bound by the matrix units.
// tf32 runs at half the 16-bit rate and, from D > 64, computes the scores once per chunk; full float32 is bound by the
// ordinary units (67 TFLOP/s at most).
//
// A policy is a struct passed by value:
//   kOwnKey        each row has a key of its own (stream.own_keys), which is no column: its product is found first, by
//                  the same instructions as every other, and columns above it are counted
//   kSoftmax       weights are e^(logit - maximum); otherwise coefficient(row, column, info, logit) gives them, in [-1,
//                  1], and only `expected` is left behind: the transposed pass, where log-sum-exps are known
//   kRanges        where policy.local() says so, a row block needs only the columns that policy.range(block) names, and
//                  one worker takes them all
//   Column         what counts() and coefficient() want to know of a column, 8 or 16 bytes; policy.columns() is the
//                  array, or null, and policy.described_columns() its length. It travels with the tile.
//                  alike(block, begin, end) and coefficient(info, logit), optional: the coefficient of any of these
//                  rows with any of these columns is that of two arguments
//   Row, row(r)    what they want to know of row number r
//   Block, block(first, last)     what is known of the rows first .. last, the ends of a row block, in ascending order
//   masks(block, begin, end)      may counts() be false for some of these columns?
//   counts(row, column, info)     does the column take part?
//   withholds(row, column), withholds(block, begin, end)     optional: columns that count, but that the merge adds to
//                  `expected` itself; and whether there may be some among these
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "contrast/streaming_partials.cuh"
#include "contrast/temperature.h"
#include "core/cp_async.h"
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

struct ColumnRange {
  int64_t begin, end;
};

namespace streaming {

inline constexpr int kStagesOneChunk = 3;
inline constexpr int kStagesManyChunks = 2;

// Asks for 64 rows, elements first .. first + elements of each, zeros where there is no row (pointer null) or no
// element. `together` is row 0 where all 64 follow each other in memory, which makes the addresses cheap; otherwise
// null.
template <typename Element, typename RowPointer>
__device__ __forceinline__ void load_tile(unsigned char* tile, RowPointer row_pointer, const void* together,
                                          const void* anything, int64_t first, int elements, int64_t dim,
                                          bool vectors) {
  constexpr int kPerPiece = 16 / sizeof(Element), kPieces = kTileRowBytes / 16, kRowStep = kTileThreads / kPieces;
  if (vectors && together != nullptr) {
    const int piece = threadIdx.x % kPieces, offset = piece * kPerPiece, row = threadIdx.x / kPieces;
    if (offset < elements) {
      const bool valid = first + offset < dim;
      const Element* source = static_cast<const Element*>(together) + (valid ? row * dim + first + offset : 0);
      unsigned char* target = tile + row * kTileStride + piece * 16;
#pragma unroll
      for (int i = 0; i < kTileRows / kRowStep; ++i) {
        copy_async<16>(target + i * kRowStep * kTileStride, source, valid);
        source += kRowStep * dim;
      }
    }
  } else if (vectors) {
    const int piece = threadIdx.x % kPieces, offset = piece * kPerPiece;
    if (offset < elements) {
#pragma unroll 2
      for (int row = threadIdx.x / kPieces; row < kTileRows; row += kRowStep) {
        const auto* source = static_cast<const Element*>(row_pointer(row));
        const bool valid = source != nullptr && first + offset < dim;
        copy_async<16>(tile + row * kTileStride + piece * 16, valid ? source + first + offset : anything, valid);
      }
    }
  } else {
    // Rows that start anywhere: element by element, in plain words, for which zero is zero.
    using Word = std::conditional_t<sizeof(Element) == 2, uint16_t, uint32_t>;
    for (int row = threadIdx.x / 32; row < kTileRows; row += kTileWarps) {
      const auto* source = static_cast<const Word*>(row_pointer(row));
      for (int offset = threadIdx.x % 32; offset < elements; offset += 32) {
        const bool valid = source != nullptr && first + offset < dim;
        reinterpret_cast<Word*>(tile + row * kTileStride)[offset] = valid ? source[first + offset] : Word{0};
      }
    }
  }
}

// The same for rows of another type than that of the products: each value is rounded on its way.
template <typename Element, typename StoredRow>
__device__ __forceinline__ void round_tile(unsigned char* tile, StoredRow stored_row, int64_t first, int elements,
                                           int64_t dim) {
  for (int row = threadIdx.x / 32; row < kTileRows; row += kTileWarps) {
    const StoredValues source = stored_row(row);
    for (int offset = threadIdx.x % 32; offset < elements; offset += 32) {
      const bool valid = source.data != nullptr && first + offset < dim;
      reinterpret_cast<Element*>(tile + row * kTileStride)[offset] =
          valid ? source.rounded<Element>(first + offset) : device_narrow<Element>(0.0f);
    }
  }
}

// The barrier that makes a loaded tile visible to all warps, and lets the buffer of the tile before it be filled again.
// Tests take it away to see that its absence is noticed.
__device__ __forceinline__ void tile_barrier() {
#ifndef MOTIONOPS_TEST_WITHOUT_TILE_BARRIER
  __syncthreads();
#endif
}

template <typename Arithmetic, typename Policy>
class RowBlock {
 public:
  using Element = typename Arithmetic::Element;
  using Column = typename Policy::Column;

  __device__ __forceinline__ RowBlock(const Streaming& stream, const Policy& policy, int64_t block, int64_t row_count)
      : stream_(stream),
        policy_(policy),
        first_row_(block * kTileRows),
        row_count_(row_count),
        chunks_(static_cast<int>((stream.dim + Arithmetic::kElements - 1) / Arithmetic::kElements)) {
    unsigned char* memory = dynamic_shared_memory();
    query_tiles_ = memory;
    key_tiles_ = memory + (chunks_ == 1 ? 1 : stream.stages) * kTileBytes;
    column_info_ = reinterpret_cast<Column*>(key_tiles_ + stream.stages * kTileBytes);
    const int64_t last_row = min(first_row_ + kTileRows, row_count) - 1;
    block_ = policy.block(stream.rows.row(first_row_), stream.rows.row(last_row));
    const int upper = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      rows_[half] = policy.row(stream.rows.row(min(first_row_ + upper + 8 * half, last_row)));
    }
#pragma unroll
    for (int j = 0; j < Arithmetic::kOutputTiles; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) expected_[j][i] = 0.0f;
    }
  }

  __device__ __forceinline__ const typename Policy::Block& block() const { return block_; }

  // Goes over the columns `range` (whole tiles, but for the last of all).
  __device__ __forceinline__ void run(ColumnRange range) {
    const int64_t tiles = (range.end - range.begin + kTileRows - 1) / kTileRows;
    const int64_t first_tile = Policy::kOwnKey ? -1 : 0;
    const int64_t steps = (tiles - first_tile) * chunks_;
    const int ahead = stream_.stages - 1;
    Position load{first_tile, 0, 0}, work{first_tile, 0, 0};
    if (chunks_ == 1) load_queries(query_tiles_, 0);
    for (int64_t step = 0; step < ahead; ++step) {
      if (step < steps) load_step(load, range);
      commit_copies();
      advance(load);
    }
    Scores scores;
    for (int64_t step = 0; step < steps; ++step) {
      if (ahead == 2) {
        wait_copies<1>();
      } else {
        wait_copies<0>();
      }
      tile_barrier();
      if (step + ahead < steps) load_step(load, range);
      commit_copies();
      advance(load);
      if (work.chunk == 0) clear(scores);
      const unsigned char* keys = key_tiles_ + work.buffer * kTileBytes;
      const unsigned char* queries = chunks_ == 1 ? query_tiles_ : query_tiles_ + work.buffer * kTileBytes;
      const int elements = chunk_elements(chunk_of(work.chunk));
      Arithmetic::scores(queries, keys, elements, scores);
      if (work.chunk == chunks_ - 1) {
        if (Policy::kOwnKey && work.tile < 0) {
          take_positives(scores);
        } else {
          to_weights(scores, range.begin + work.tile * kTileRows, range.end, column_info_ + work.buffer * kTileRows);
          if (stream_.partials.expected != nullptr) Arithmetic::accumulate(scores, keys, elements, expected_);
        }
      }
      advance(work);
    }
  }

  __device__ __forceinline__ void store(int64_t slot) {
    const Partials& partials = stream_.partials;
    const int t = threadIdx.x % 4, upper = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t place = slot * kTileRows + upper + 8 * half;
      if constexpr (Policy::kSoftmax) {
        const float sum = quad_sum(sum_[half]);
        const int rank = Policy::kOwnKey ? quad_sum(rank_[half]) : 0;
        if (t == 0 && blockIdx.z == 0) {
          partials.maximum[place] = maximum_[half];
          partials.sum[place] = sum;
          if constexpr (Policy::kOwnKey) {
            partials.positive[place] = positive_[half];
            partials.rank[place] = rank;
          }
        }
      }
      if (partials.expected != nullptr) {
        const int64_t first = blockIdx.z * int64_t{Arithmetic::kElements};
        float* out = partials.expected + place * partials.padded_dim + first + 2 * t;
#pragma unroll
        for (int j = 0; j < Arithmetic::kOutputTiles; ++j) {
          if (first + 8 * j < partials.padded_dim) {
            *reinterpret_cast<float2*>(out + 8 * j) = make_float2(expected_[j][2 * half], expected_[j][2 * half + 1]);
          }
        }
      }
    }
  }

 private:
  struct Position {
    int64_t tile;
    int chunk;
    int buffer;
  };

  __device__ __forceinline__ void advance(Position& position) const {
    if (++position.chunk == chunks_) {
      position.chunk = 0;
      ++position.tile;
    }
    if (++position.buffer == stream_.stages) position.buffer = 0;
  }

  // The CTA's own chunk is visited last, so that it is in shared memory for the second product.
  __device__ __forceinline__ int chunk_of(int order) const {
    const int chunk = static_cast<int>(blockIdx.z) + 1 + order;
    return chunk < chunks_ ? chunk : chunk - chunks_;
  }

  __device__ __forceinline__ int chunk_elements(int chunk) const {
    const int64_t left = stream_.dim - int64_t{chunk} * Arithmetic::kElements;
    return left < Arithmetic::kElements ? static_cast<int>(left + 15) / 16 * 16 : Arithmetic::kElements;
  }

  __device__ __forceinline__ void load_queries(unsigned char* tile, int chunk) const {
    const StoredValues values = stream_.rows.values;
    const auto offset = [&](int row) -> int64_t {
      const int64_t index = first_row_ + row;
      return index < row_count_ ? stream_.rows.row(index) * stream_.dim : -1;
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
    if (chunks_ > 1) load_queries(query_tiles_ + position.buffer * kTileBytes, chunk);
    const bool own = Policy::kOwnKey && position.tile < 0;
    const int64_t first_column = own ? first_row_ : range.begin + position.tile * kTileRows;
    const int64_t first_rows = own ? row_count_ : stream_.columns.count();
    const int64_t end = own ? row_count_ : range.end;
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
    fill_tile(key_tiles_ + position.buffer * kTileBytes, chunk, as_products, together, pointer, stored);
    const Column* columns = policy_.columns();
    if (columns != nullptr && !own && threadIdx.x < kTileRows) {
      const int64_t column = first_column + threadIdx.x;
      const bool valid = column < policy_.described_columns();
      copy_async<sizeof(Column)>(column_info_ + position.buffer * kTileRows + threadIdx.x,
                                 columns + (valid ? column : 0), valid);
    }
  }

  // Rows that are `as_products`, of the products' type, are copied; others are rounded. `pointer` and `stored` name a row.
  template <typename RowPointer, typename StoredRow>
  __device__ __forceinline__ void fill_tile(unsigned char* tile, int chunk, bool as_products, const void* together,
                                            RowPointer pointer, StoredRow stored) const {
    const int64_t first = int64_t{chunk} * Arithmetic::kElements;
    if (as_products) {
      load_tile<Element>(tile, pointer, together, stream_.rows.values.data, first, chunk_elements(chunk), stream_.dim,
                         stream_.vectors);
    } else {
      round_tile<Element>(tile, stored, first, chunk_elements(chunk), stream_.dim);
    }
  }

  static __device__ __forceinline__ void clear(Scores& scores) {
#pragma unroll
    for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[j][i] = 0.0f;
    }
  }

  // The diagonal of rows . own keys. One lane of the four that hold a row has it; the others add zero.
  __device__ __forceinline__ void take_positives(const Scores& scores) {
    const int t = threadIdx.x % 4, upper = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
    float mine[2] = {0.0f, 0.0f};
#pragma unroll
    for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (8 * j + 2 * t + i % 2 == upper + 8 * (i / 2)) mine[i / 2] = scores[j][i];
      }
    }
    positive_[0] = quad_sum(mine[0]);
    positive_[1] = quad_sum(mine[1]);
  }

  // Turns the scores of a tile into weights, in place, and keeps the running statistics.
  __device__ __forceinline__ void to_weights(Scores& scores, int64_t first_column, int64_t end, const Column* info) {
    const int t = threadIdx.x % 4;
    const bool described = policy_.columns() != nullptr;
    const float inverse_temperature = stream_.temperature.read_inverse();
    if constexpr (!Policy::kSoftmax) {
      // Decided once a tile: most have no pair of a kind of its own, and a test in each of 32 elements costs more than
      // the elements.
      if constexpr (requires { policy_.alike(block_, first_column, end); }) {
        if (first_column + kTileRows <= end && policy_.alike(block_, first_column, first_column + kTileRows)) {
#pragma unroll
          for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              const float logit = scores[j][i] * inverse_temperature;
              scores[j][i] = policy_.coefficient(info[8 * j + 2 * t + i % 2], logit) * Arithmetic::kWeightScale;
            }
          }
          return;
        }
      }
#pragma unroll
      for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int offset = 8 * j + 2 * t + i % 2;
          const bool counts = first_column + offset < end;
          const float logit = scores[j][i] * inverse_temperature;
          scores[j][i] = counts ? policy_.coefficient(rows_[i / 2], first_column + offset, info[offset], logit) *
                                      Arithmetic::kWeightScale
                                : 0.0f;
        }
      }
    } else {
      if (first_column + kTileRows > end || policy_.masks(block_, first_column, first_column + kTileRows)) {
#pragma unroll
        for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
          for (int side = 0; side < 2; ++side) {
            const int offset = 8 * j + 2 * t + side;
            const Column column = described ? info[offset] : Column{};
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const bool counts =
                  first_column + offset < end && policy_.counts(rows_[half], first_column + offset, column);
              if (!counts) scores[j][side + 2 * half] = -INFINITY;
            }
          }
        }
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float maximum = maximum_[half];
#pragma unroll
        for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
          for (int side = 0; side < 2; ++side) {
            float& score = scores[j][side + 2 * half];
            if constexpr (Policy::kOwnKey) rank_[half] += score > positive_[half];
            score *= inverse_temperature;
            maximum = fmaxf(maximum, score);  // a NaN shows in the sum
          }
        }
        maximum = quad_max(maximum);
        const float base = finite_base(maximum);
        const float correction = exp_approximate(maximum_[half] - base);
        maximum_[half] = maximum;
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
          for (int side = 0; side < 2; ++side) {
            float& weight = scores[j][side + 2 * half];
            weight = exp_approximate(weight - base);
            sum += weight;
            if constexpr (Arithmetic::kWeightScale != 1.0f) weight *= Arithmetic::kWeightScale;
          }
        }
        sum_[half] = sum_[half] * correction + sum;
        if constexpr (requires { policy_.withholds(rows_[half], first_column); }) {
          if (policy_.withholds(block_, first_column, first_column + kTileRows)) {
#pragma unroll
            for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
              for (int side = 0; side < 2; ++side) {
                if (policy_.withholds(rows_[half], first_column + 8 * j + 2 * t + side)) {
                  scores[j][side + 2 * half] = 0.0f;
                }
              }
            }
          }
        }
        // After the first tiles the maximum seldom moves, and all rows of a warp can be left as they are.
        if (stream_.partials.expected != nullptr && __any_sync(kAllLanes, correction != 1.0f)) {
#pragma unroll
          for (int j = 0; j < Arithmetic::kOutputTiles; ++j) {
            expected_[j][2 * half] *= correction;
            expected_[j][2 * half + 1] *= correction;
          }
        }
      }
    }
  }

  const Streaming& stream_;
  const Policy& policy_;
  int64_t first_row_;
  int64_t row_count_;
  int chunks_;
  unsigned char* query_tiles_;
  unsigned char* key_tiles_;
  Column* column_info_;
  typename Policy::Block block_;
  typename Policy::Row rows_[2];
  float maximum_[2] = {-INFINITY, -INFINITY};
  float sum_[2] = {0.0f, 0.0f};
  float positive_[2] = {0.0f, 0.0f};
  int rank_[2] = {0, 0};
  float expected_[Arithmetic::kOutputTiles][4];
};

template <typename Arithmetic, typename Policy>
__global__ void __launch_bounds__(kTileThreads, 2)
    streaming_softmax_kernel(const __grid_constant__ Streaming stream, const __grid_constant__ Policy policy) {
  if (stream.counter != nullptr && blockIdx.x == 0 && blockIdx.z == 0 && threadIdx.x == 0) *stream.counter = 0;
  const int64_t row_count = stream.rows.count();
  const int64_t column_count = stream.columns.count() + stream.more_rows;
  bool local = false;
  if constexpr (Policy::kRanges) local = policy.local();
  const Partition partition(row_count, local ? 1 : column_tiles(column_count), gridDim.x);
  if (blockIdx.x >= partition.workers) return;
  const int64_t last = partition.first_tile(blockIdx.x + 1);
  for (int64_t tile = partition.first_tile(blockIdx.x); tile < last;) {
    const int64_t block = tile / partition.tiles, first_tile = tile - block * partition.tiles;
    const int64_t last_tile = min(partition.tiles, first_tile + last - tile);
    RowBlock<Arithmetic, Policy> rows(stream, policy, block, row_count);
    ColumnRange range{first_tile * kTileRows, min(last_tile * kTileRows, column_count)};
    if constexpr (Policy::kRanges) {
      if (local) range = policy.range(rows.block());
    }
    rows.run(range);
    rows.store(blockIdx.x + block);
    tile += last_tile - first_tile;
    if (tile < last) {
      wait_copies<0>();
      __syncthreads();  // the next row block's first loads go where slower warps may still read
    }
  }
}

// What only depends on the type of the features.
struct Shape {
  int chunks;
  int stages;
  size_t shared_bytes;
};
inline Shape shape_of(Dtype dtype, int64_t dim, size_t column_bytes) {
  const int64_t elements = dtype == Dtype::kFloat32 ? kTileRowBytes / 4 : kTileRowBytes / 2;
  Shape shape{};
  shape.chunks = static_cast<int>((dim + elements - 1) / elements);
  shape.stages = shape.chunks == 1 ? kStagesOneChunk : kStagesManyChunks;
  const int tiles = shape.stages + (shape.chunks == 1 ? 1 : shape.stages);
  shape.shared_bytes = static_cast<size_t>(tiles) * kTileBytes + shape.stages * kTileRows * column_bytes;
#ifdef MOTIONOPS_TEST_SHARED_BYTES_MISSING
  shape.shared_bytes -= MOTIONOPS_TEST_SHARED_BYTES_MISSING;  // tests see that the overrun is noticed
#endif
  return shape;
}

}  // namespace streaming

inline int64_t padded_dim(int64_t dim) { return (dim + 7) / 8 * 8; }

// How many CTAs, per chunk of the output, share `tiles` tiles, of all row blocks together: as many as are resident at
// once, but no more than leaves each `least` of them.
inline int64_t streaming_workers(int64_t tiles, int64_t least, int64_t dim, Dtype dtype, bool expected) {
  const int chunks = expected ? streaming::shape_of(dtype, dim, 0).chunks : 1;
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
  const streaming::Shape shape = streaming::shape_of(dtype, stream.dim, sizeof(typename Policy::Column));
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
