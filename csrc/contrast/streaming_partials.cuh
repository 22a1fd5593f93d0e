// What the streaming softmax reads and what it leaves behind: row sources, the division of work among CTAs, the partial
// results they write, and the pieces from which an operator's merge kernel is made.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "contrast/feature_element.cuh"
#include "core/matrix_tile.h"
#include "core/warp.h"

namespace motionops {

inline constexpr float kLog2E = 1.4426950408889634f;

// e^x, to a few units in the last place; e^-inf = 0, NaN stays.
__device__ __forceinline__ float exp_approximate(float x) { return exp2_approximate(x * kLog2E); }

// Subtracting minus infinity from itself must give nothing rather than NaN where a row has no column yet.
__device__ __forceinline__ float finite_base(float maximum) { return maximum == -INFINITY ? 0.0f : maximum; }

// Rows of a matrix [*, dim]: all of them, or those that a list on the device names.
struct RowSource {
  StoredValues values;
  const int32_t* list;    // row numbers, ascending; null: 0, 1, 2, ...
  const int32_t* listed;  // how many, on the device; null exactly where list is
  int64_t rows;           // how many, or an upper bound of *listed

  __device__ __forceinline__ int64_t count() const { return listed != nullptr ? *listed : rows; }
  __device__ __forceinline__ int64_t row(int64_t index) const { return list != nullptr ? list[index] : index; }
};

__host__ __device__ __forceinline__ int64_t row_blocks(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }

__host__ __device__ __forceinline__ int64_t column_tiles(int64_t columns) {
  return columns > 0 ? (columns + kTileRows - 1) / kTileRows : 1;  // rows are visited even if there is no column
}

// Rows x columns, cut into tiles; the tiles, row block after row block, are dealt to the workers in equal runs. A
// worker's run may touch several row blocks; what it finds for row block b goes to slot `worker + b`, which no other
// pair shares.
struct Partition {
  int64_t blocks;   // of kTileRows rows
  int64_t tiles;    // of columns, per row block; at least one
  int64_t workers;  // that have something to do

  __host__ __device__ __forceinline__ Partition(int64_t rows, int64_t tiles_per_block, int64_t maximum_workers)
      : blocks(row_blocks(rows)), tiles(tiles_per_block) {
    workers = maximum_workers < blocks * tiles ? maximum_workers : blocks * tiles;
  }
  // The first tile of worker w; that of worker w + 1 is where it ends.
  __device__ __forceinline__ int64_t first_tile(int64_t worker) const { return worker * blocks * tiles / workers; }
  __device__ __forceinline__ int64_t worker_of(int64_t tile) const {
    return ((tile + 1) * workers - 1) / (blocks * tiles);
  }
  // The slots of row block b are first_slot(b) .. last_slot(b).
  __device__ __forceinline__ int64_t first_slot(int64_t block) const { return worker_of(block * tiles) + block; }
  __device__ __forceinline__ int64_t last_slot(int64_t block) const {
    return worker_of(block * tiles + tiles - 1) + block;
  }
};

// Partial results, [slots, 64] each, in workspace.
struct Partials {
  float* maximum;      // of the logits
  float* sum;          // of e^(logit - maximum)
  float* positive;     // q . own key, not divided by the temperature; where the policy has own keys
  int32_t* rank;       // columns above the positive; where the policy has own keys
  float* expected;     // [slots, 64, padded_dim]: sum of e^(logit - maximum) key, times weight_scale; null: not wanted
  int64_t padded_dim;  // D, rounded up to 8
  float weight_scale;
};

struct RowStatistics {
  float maximum;
  float sum;  // relative to finite_base(maximum)
  int rank;
};

inline constexpr int kMergeThreads = 256;
inline constexpr int kMergeWarps = kMergeThreads / 32;

// Folds every `parts`-th 32 of the slots first .. last of one row, from the `part`-th on. Called by whole warps; every lane
// gets the result. The loads of a round do not wait for each other: a merge kernel is short, and most of its time is
// latency.
__device__ __forceinline__ RowStatistics combine_statistics(const Partials& partials, int64_t first, int64_t last,
                                                            int row, int part = 0, int parts = 1) {
  constexpr int kBatch = 4;
  const int step = 32 * parts;
  RowStatistics total{-INFINITY, 0.0f, 0};
  for (int64_t begin = first + 32 * part + threadIdx.x % 32; begin <= last; begin += step * kBatch) {
    float maximum[kBatch], sum[kBatch];
    float highest = total.maximum;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int64_t slot = begin + step * i, place = slot * kTileRows + row;
      maximum[i] = slot <= last ? partials.maximum[place] : -INFINITY;
      sum[i] = slot <= last ? partials.sum[place] : 0.0f;
      if (partials.rank != nullptr && slot <= last) total.rank += partials.rank[place];
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) highest = fmaxf(highest, maximum[i]);
    const float base = finite_base(highest);
    total.sum *= exp_approximate(total.maximum - base);
#pragma unroll
    for (int i = 0; i < kBatch; ++i) total.sum += sum[i] * exp_approximate(maximum[i] - base);
    total.maximum = highest;
  }
  const float highest = warp_max(total.maximum);
  total.sum = warp_sum(total.sum * exp_approximate(total.maximum - finite_base(highest)));
  total.maximum = highest;
  total.rank = warp_sum(total.rank);
  return total;
}

// The same by a block of kMergeThreads together, for a row of many slots; every thread gets the result.
__device__ __forceinline__ RowStatistics combine_statistics_together(const Partials& partials, int64_t first,
                                                                     int64_t last, int row) {
  if (last - first < 32) return combine_statistics(partials, first, last, row);
  __shared__ RowStatistics found[kMergeWarps];
  const int warp = threadIdx.x / 32;
  const RowStatistics mine = combine_statistics(partials, first, last, row, warp, kMergeWarps);
  if (threadIdx.x % 32 == 0) found[warp] = mine;
  __syncthreads();
  RowStatistics total{-INFINITY, 0.0f, 0};
#pragma unroll
  for (int part = 0; part < kMergeWarps; ++part) total.maximum = fmaxf(total.maximum, found[part].maximum);
#pragma unroll
  for (int part = 0; part < kMergeWarps; ++part) {
    total.sum += found[part].sum * exp_approximate(found[part].maximum - finite_base(total.maximum));
    total.rank += found[part].rank;
  }
  return total;
}

// Sums elements begin .. begin + kPiece of one row's vectors over its slots, each times e^(maximum - base) where
// `weighted`, and calls emit(d, sum) for those below padded_dim. Called by a block of kMergeThreads; the same d always
// comes to the same thread. A lane takes 16 bytes, so that a warp has 128 / kPiece slots at a time; the partial vectors
// were just written and mostly come from L2.
template <bool kWeighted, int kPiece, typename Emit>
__device__ __forceinline__ void combine_piece(const Partials& partials, int64_t first, int64_t last, int row,
                                              float base, int64_t begin, Emit emit) {
  constexpr int kBatch = 8, kLanes = kPiece / 4, kParts = kMergeThreads / kLanes;
  __shared__ float4 scratch[kParts][kLanes];
  const int lane = threadIdx.x % kLanes, part = threadIdx.x / kLanes, mine = static_cast<int>(threadIdx.x);
  const int64_t d = begin + 4 * lane;
  float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (d < partials.padded_dim) {
    for (int64_t slot = first + part; slot <= last; slot += kBatch * kParts) {
      float4 values[kBatch];
      float factor[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int64_t place = (slot + i * kParts) * kTileRows + row;
        const bool valid = slot + i * kParts <= last;
        values[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (valid) values[i] = *reinterpret_cast<const float4*>(partials.expected + place * partials.padded_dim + d);
        factor[i] = kWeighted && valid ? partials.maximum[place] : base;
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if constexpr (kWeighted)
          factor[i] = exp_approximate(factor[i] - base);
        else
          factor[i] = 1.0f;
        total.x = fmaf(factor[i], values[i].x, total.x);
        total.y = fmaf(factor[i], values[i].y, total.y);
        total.z = fmaf(factor[i], values[i].z, total.z);
        total.w = fmaf(factor[i], values[i].w, total.w);
      }
    }
  }
  scratch[part][lane] = total;
  __syncthreads();
  if (mine < kPiece && begin + mine < partials.padded_dim) {
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < kParts; ++k) sum += reinterpret_cast<const float*>(scratch[k])[mine];
    emit(begin + mine, sum);
  }
}

// All elements of the vectors, piece after piece.
template <bool kWeighted, typename Emit>
__device__ __forceinline__ void combine_expected(const Partials& partials, int64_t first, int64_t last, int row,
                                                 float base, Emit emit) {
  constexpr int kPiece = 128;
  for (int64_t begin = 0; begin < partials.padded_dim; begin += kPiece) {
    combine_piece<kWeighted, kPiece>(partials, first, last, row, base, begin, emit);
    __syncthreads();  // scratch is written again
  }
}

// True in every thread of exactly one block of a grid: the last to call it. What the other blocks wrote to global
// memory before they called is then visible through __ldcg. `counter` must be zero when the grid starts.
__device__ __forceinline__ bool last_block(int32_t* counter) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(counter, 1) == static_cast<int32_t>(gridDim.x * gridDim.z) - 1;
    // a fence empties the multiprocessor's cache, under the feet of its other blocks
    if (last) __threadfence();
  }
  __syncthreads();
  return last;
}

}  // namespace motionops
