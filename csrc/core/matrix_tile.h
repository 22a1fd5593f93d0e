// Products of 64x64 tiles, four warps, for each kind of arithmetic behind the same layout.
//
// A tile in shared memory is 64 rows of 128 elements, kTileStride bytes apart: the 16 bytes between them let eight rows
// that are read at once fall on different banks. Warp w has 32x32 of the scores, and sums up what its 32 columns give
// its 32 rows, 32x128: two warps find the sums of a row together. Squares, because each number that is read from shared
// memory, which is what limits most kinds, is used for 32 others.
//
// A kind of arithmetic gives
//   scores(queries, keys, elements, own, scores)    scores += sum of queries[row][d] keys[column][d], d < elements
//   accumulate(weights, keys, elements, sums)       sums += sum over the warp's columns of weights keys[column][d], d <
//                                                   elements
//   kRows, kColumns, kSums                          a lane's results are scores[kRows][kColumns] and sums[kRows][kSums]
//   row(i), column(c), own_column(c), sum_column(s)     and stand in these rows and columns of the tile: own_column where
//                                                   scores were asked for with `own`, which has the diagonal in every warp
//   kSumRun                                         so many sums, one after another, are of neighbouring columns
//   kRowLanes                                       so many lanes, side by side, share their rows
// `elements` is a multiple of 16; sums beyond it are undefined. Every score is the same function of its two rows wherever
// it stands in the tile, bit for bit: ranks rely on it. kWeightScale brings weights in [0, 1] to where the operand type
// has precision.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "core/ldmatrix.h"
#include "core/mma.h"
#include "core/warp.h"

namespace motionops {

inline constexpr int kTileRows = 64;
inline constexpr int kTileElements = 128;
inline constexpr int kTileWarps = 4;
inline constexpr int kTileThreads = 32 * kTileWarps;

template <typename Element>
inline constexpr int kTileStride = kTileElements * sizeof(Element) + 16;
template <typename Element>
inline constexpr int kTileBytes = kTileRows * kTileStride<Element>;

// 32x32 scores a warp, in accumulators of the matrix units (core/mma.h), two by four.
template <typename Element_>
struct MatrixUnitArithmetic {
  using Element = Element_;
  static constexpr int kRowTiles = 2, kColumnTiles = 4, kSumTiles = kTileElements / 8;
  static constexpr int kRows = 2 * kRowTiles, kColumns = 2 * kColumnTiles, kSums = 2 * kSumTiles;
  static constexpr int kSumRun = 2, kRowLanes = 4;
  static constexpr int kStride = kTileStride<Element>;
  using Scores = float[kRows][kColumns];
  using Sums = float[kRows][kSums];

  static __device__ __forceinline__ int first_row() { return threadIdx.x / 64 * 16 * kRowTiles; }
  static __device__ __forceinline__ int first_column() { return threadIdx.x / 32 % 2 * 8 * kColumnTiles; }
  static __device__ __forceinline__ int row(int i) { return first_row() + threadIdx.x % 32 / 4 + 8 * i; }
  static __device__ __forceinline__ int sum_column(int s) { return 8 * (s / 2) + threadIdx.x % 4 * 2 + s % 2; }
  static __device__ __forceinline__ int column(int c) { return first_column() + sum_column(c); }
  static __device__ __forceinline__ int own_column(int c) { return first_row() + sum_column(c); }

 protected:
  template <typename Operand, int kWidth>
  static __device__ __forceinline__ void multiply_add(Operand, float (&out)[kRows][kWidth], int row_tile, int tile,
                                                      const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    float (&upper)[kWidth] = out[2 * row_tile], (&lower)[kWidth] = out[2 * row_tile + 1];
    float d[4] = {upper[2 * tile], upper[2 * tile + 1], lower[2 * tile], lower[2 * tile + 1]};
    mma(Operand{}, d, a, b0, b1);
    upper[2 * tile] = d[0];
    upper[2 * tile + 1] = d[1];
    lower[2 * tile] = d[2];
    lower[2 * tile + 1] = d[3];
  }

  // ldmatrix delivers 32 bytes of 16 rows of A, and of 16 rows of B.
  template <typename Operand, typename Convert>
  static __device__ __forceinline__ void products(Operand, const unsigned char* queries, const unsigned char* keys,
                                                  int elements, bool own, Scores& scores, Convert convert) {
    const int lane = threadIdx.x % 32, bytes = elements * static_cast<int>(sizeof(Element));
    const unsigned char* query_row = queries + (first_row() + lane % 16) * kStride + lane / 16 * 16;
    const unsigned char* key_row =
        keys + ((own ? first_row() : first_column()) + lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 16;
#pragma unroll 2
    for (int offset = 0; offset < bytes; offset += 32) {
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        load_matrices(a[m], query_row + 16 * m * kStride + offset);
        convert(a[m]);
      }
#pragma unroll
      for (int j = 0; j < kColumnTiles; j += 2) {
        uint32_t b[4];
        load_matrices(b, key_row + 8 * j * kStride + offset);
        convert(b);
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) {
          multiply_add(Operand{}, scores, m, j, a[m], b[0], b[1]);
          multiply_add(Operand{}, scores, m, j + 1, a[m], b[2], b[3]);
        }
      }
    }
  }

  // Calls body(j) for the accumulators of sums, kStep apart, leaving the second half out where `elements` ends before it.
  // Finer branches would keep the compiler from overlapping the loads of one accumulator with the products of another.
  template <int kStep, typename Body>
  static __device__ __forceinline__ void for_sum_tiles(int elements, Body body) {
#pragma unroll
    for (int j = 0; j < kSumTiles / 2; j += kStep) body(j);
    if (elements > kTileElements / 2) {
#pragma unroll
      for (int j = kSumTiles / 2; j < kSumTiles; j += kStep) body(j);
    }
  }
};

template <typename Element, typename Operand, int kScale>
struct HalfWidthArithmetic : MatrixUnitArithmetic<Element> {
  using Base = MatrixUnitArithmetic<Element>;
  using typename Base::Scores, typename Base::Sums;
  static constexpr float kWeightScale = kScale;

  static __device__ __forceinline__ void scores(const unsigned char* queries, const unsigned char* keys, int elements,
                                                bool own, Scores& scores) {
    Base::products(Operand{}, queries, keys, elements, own, scores, [](uint32_t (&)[4]) {});
  }

  static __device__ __forceinline__ void accumulate(const Scores& weights, const unsigned char* keys, int elements,
                                                    Sums& sums) {
    const int lane = threadIdx.x % 32;
    const unsigned char* key_row = keys + (Base::first_column() + lane % 16) * Base::kStride + lane / 16 * 16;
#pragma unroll
    for (int step = 0; step < Base::kColumnTiles / 2; ++step) {
      // two neighbouring accumulators have the layout of one 16x16 operand
      uint32_t a[Base::kRowTiles][4];
#pragma unroll
      for (int m = 0; m < Base::kRowTiles; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float (&row)[Base::kColumns] = weights[2 * m + i % 2];
          a[m][i] = pack(Operand{}, row[4 * step + i / 2 * 2], row[4 * step + i / 2 * 2 + 1]);
        }
      }
      Base::template for_sum_tiles<2>(elements, [&](int j) {
        uint32_t b[4];
        load_matrices_transposed(b, key_row + 16 * step * Base::kStride + 16 * j);
#pragma unroll
        for (int m = 0; m < Base::kRowTiles; ++m) {
          Base::multiply_add(Operand{}, sums, m, j, a[m], b[0], b[1]);
          Base::multiply_add(Operand{}, sums, m, j + 1, a[m], b[2], b[3]);
        }
      });
    }
  }
};

using Bfloat16Arithmetic = HalfWidthArithmetic<__nv_bfloat16, Bfloat16Operand, 1>;
using Float16Arithmetic = HalfWidthArithmetic<__half, Float16Operand, 4096>;

struct Tf32Arithmetic : MatrixUnitArithmetic<float> {
  static constexpr float kWeightScale = 1.0f;

  static __device__ __forceinline__ void scores(const unsigned char* queries, const unsigned char* keys, int elements,
                                                bool own, Scores& scores) {
    products(Tf32Operand{}, queries, keys, elements, own, scores, [](uint32_t (&words)[4]) {
#pragma unroll
      for (int i = 0; i < 4; ++i) words[i] = to_tf32(__uint_as_float(words[i]));
    });
  }

  static __device__ __forceinline__ void accumulate(const Scores& weights, const unsigned char* keys, int elements,
                                                    Sums& sums) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int step = 0; step < kColumnTiles; ++step) {
      // The order of the summed index is free: operand columns t and t + 4 stand for keys 2t and 2t + 1, which is where
      // the accumulator has them, so no lane needs another's weights.
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) a[m][i] = to_tf32(weights[2 * m + i % 2][2 * step + i / 2]);
      }
      const unsigned char* row = keys + (first_column() + 8 * step + 2 * t) * kStride;
      const auto *even = reinterpret_cast<const float*>(row) + g, *odd = even + kStride / sizeof(float);
      for_sum_tiles<1>(elements, [&](int j) {
        const uint32_t b0 = to_tf32(even[8 * j]), b1 = to_tf32(odd[8 * j]);
#pragma unroll
        for (int m = 0; m < kRowTiles; ++m) multiply_add(Tf32Operand{}, sums, m, j, a[m], b0, b1);
      });
    }
  }
};

// Full float32 on the ordinary units. A lane's rows and columns of scores are 4 and 8 apart, those of its sums in runs of
// four, so that lanes read 16 bytes from different banks.
struct Float32Arithmetic {
  using Element = float;
  static constexpr int kRows = 8, kColumns = 4, kSums = kTileElements / 8, kSumRun = 4;
  static constexpr int kRowLanes = 8;
  static constexpr float kWeightScale = 1.0f;
  using Scores = float[kRows][kColumns];
  using Sums = float[kRows][kSums];

  static __device__ __forceinline__ int first_row() { return threadIdx.x / 64 * 4 * kRows; }
  static __device__ __forceinline__ int first_column() { return threadIdx.x / 32 % 2 * 8 * kColumns; }
  static __device__ __forceinline__ int row(int i) { return first_row() + threadIdx.x % 32 / 8 + 4 * i; }
  static __device__ __forceinline__ int column(int c) { return first_column() + threadIdx.x % 8 + 8 * c; }
  static __device__ __forceinline__ int own_column(int c) { return first_row() + threadIdx.x % 8 + 8 * c; }
  static __device__ __forceinline__ int sum_column(int s) { return 32 * (s / 4) + threadIdx.x % 8 * 4 + s % 4; }

  static __device__ __forceinline__ void scores(const unsigned char* queries, const unsigned char* keys, int elements,
                                                bool own, Scores& scores) {
    const float* query = element(queries, row(0));
    const float* key = element(keys, (own ? first_row() : first_column()) + threadIdx.x % 8);
#pragma unroll 1
    for (int d = 0; d < elements; d += 4) {
      float4 columns[kColumns];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) columns[c] = *reinterpret_cast<const float4*>(key + 8 * c * kStep + d);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        const float4 row = *reinterpret_cast<const float4*>(query + 4 * i * kStep + d);
#pragma unroll
        for (int c = 0; c < kColumns; ++c) scores[i][c] = dot(row, columns[c], scores[i][c]);
      }
    }
  }

  static __device__ __forceinline__ void accumulate(const Scores& weights, const unsigned char* keys, int elements,
                                                    Sums& sums) {
    const int lane = threadIdx.x % 32;
#pragma unroll 1
    for (int owner = 0; owner < kRowLanes; ++owner) {  // the lane of eight that has the weights of every eighth column
      const float* key = element(keys, first_column() + owner) + sum_column(0);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        float weight[kRows];
#pragma unroll
        for (int i = 0; i < kRows; ++i) weight[i] = __shfl_sync(kAllLanes, weights[i][c], lane / 8 * 8 + owner);
#pragma unroll
        for (int s = 0; s < kSums; s += 4) {
          if (8 * s < elements) {  // here the branch is welcome: it keeps loads, and so registers, apart
            const float4 run = *reinterpret_cast<const float4*>(key + 8 * c * kStep + 8 * s);
#pragma unroll
            for (int i = 0; i < kRows; ++i) {
              sums[i][s] = fmaf(weight[i], run.x, sums[i][s]);
              sums[i][s + 1] = fmaf(weight[i], run.y, sums[i][s + 1]);
              sums[i][s + 2] = fmaf(weight[i], run.z, sums[i][s + 2]);
              sums[i][s + 3] = fmaf(weight[i], run.w, sums[i][s + 3]);
            }
          }
        }
      }
    }
  }

 private:
  static constexpr int kStep = kTileStride<float> / sizeof(float);

  static __device__ __forceinline__ const float* element(const unsigned char* tile, int row) {
    return reinterpret_cast<const float*>(tile) + row * kStep;
  }
  static __device__ __forceinline__ float dot(const float4& a, const float4& b, float sum) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
  }
};

}  // namespace motionops
