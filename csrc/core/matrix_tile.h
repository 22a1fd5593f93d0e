// Products of 64x64 tiles, four warps, for each kind of arithmetic behind the same layout.
//
// A tile in shared memory is 64 rows of 256 bytes (128 16-bit or 64 32-bit elements), kTileStride bytes apart: the 16
// bytes between them let eight rows that ldmatrix reads fall on different banks. Warp w owns rows 16w .. 16w+15 of the
// results; its lanes hold them as accumulators of the matrix units do (core/mma.h): scores[j] is the 16x8 tile of
// columns 8j ...
//
// A kind of arithmetic gives
//   scores(queries, keys, elements, scores)      scores[i][n] += sum of queries[i][d] keys[n][d], d < elements
//   accumulate(weights, keys, elements, out)     out[i][d] += sum over n of weights[i][n] keys[n][d], d < elements
// `elements` is a multiple of 16; out beyond it is undefined. Every score is the same function of its two rows wherever
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
inline constexpr int kTileRowBytes = 256;
inline constexpr int kTileStride = kTileRowBytes + 16;
inline constexpr int kTileBytes = kTileRows * kTileStride;
inline constexpr int kTileWarps = kTileRows / 16;
inline constexpr int kTileThreads = 32 * kTileWarps;
inline constexpr int kScoreTiles = kTileRows / 8;  // 16x8 accumulators across a row of scores

using Scores = float[kScoreTiles][4];

// Calls body(j) for the kTiles output accumulators, kStep apart, leaving the second half out where `elements` ends
// before it. Finer branches would keep the compiler from overlapping the loads of one accumulator with the products of
// another.
template <int kTiles, int kStep, typename Body>
__device__ __forceinline__ void for_output_tiles(int elements, Body body) {
#pragma unroll
  for (int j = 0; j < kTiles / 2; j += kStep) body(j);
  if (elements > kTiles / 2 * 8) {
#pragma unroll
    for (int j = kTiles / 2; j < kTiles; j += kStep) body(j);
  }
}

// What the 16-bit kinds and tf32 share: ldmatrix delivers 32 bytes of 16 rows of A, and of 16 rows of B.
template <typename Operand, bool kRound>
__device__ __forceinline__ void matrix_unit_scores(const unsigned char* queries, const unsigned char* keys, int bytes,
                                                   Scores& scores) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const unsigned char* query_row = queries + (16 * warp + lane % 16) * kTileStride + lane / 16 * 16;
  const unsigned char* key_row = keys + (lane / 16 * 8 + lane % 8) * kTileStride + lane / 8 % 2 * 16;
#pragma unroll 2
  for (int offset = 0; offset < bytes; offset += 32) {
    uint32_t a[4];
    load_matrices(a, query_row + offset);
    if constexpr (kRound) {
#pragma unroll
      for (int i = 0; i < 4; ++i) a[i] = to_tf32(__uint_as_float(a[i]));
    }
#pragma unroll
    for (int j = 0; j < kScoreTiles; j += 2) {
      uint32_t b[4];
      load_matrices(b, key_row + 8 * j * kTileStride + offset);
      if constexpr (kRound) {
#pragma unroll
        for (int i = 0; i < 4; ++i) b[i] = to_tf32(__uint_as_float(b[i]));
      }
      mma(Operand{}, scores[j], a, b[0], b[1]);
      mma(Operand{}, scores[j + 1], a, b[2], b[3]);
    }
  }
}

template <typename Element_, typename Operand, int kScale>
struct HalfWidthArithmetic {
  using Element = Element_;
  static constexpr int kElements = kTileRowBytes / 2;
  static constexpr int kOutputTiles = kElements / 8;
  static constexpr float kWeightScale = kScale;

  static __device__ __forceinline__ void scores(const unsigned char* queries, const unsigned char* keys, int elements,
                                                Scores& scores) {
    matrix_unit_scores<Operand, false>(queries, keys, 2 * elements, scores);
  }

  static __device__ __forceinline__ void accumulate(const Scores& weights, const unsigned char* keys, int elements,
                                                    float (&out)[kOutputTiles][4]) {
    const int lane = threadIdx.x % 32;
    const unsigned char* key_row = keys + lane % 16 * kTileStride + lane / 16 * 16;
#pragma unroll
    for (int step = 0; step < kTileRows / 16; ++step) {
      // two neighbouring accumulators have the layout of one 16x16 operand
      const uint32_t a[4] = {pack(Operand{}, weights[2 * step][0], weights[2 * step][1]),
                             pack(Operand{}, weights[2 * step][2], weights[2 * step][3]),
                             pack(Operand{}, weights[2 * step + 1][0], weights[2 * step + 1][1]),
                             pack(Operand{}, weights[2 * step + 1][2], weights[2 * step + 1][3])};
      for_output_tiles<kOutputTiles, 2>(elements, [&](int j) {
        uint32_t b[4];
        load_matrices_transposed(b, key_row + 16 * step * kTileStride + 16 * j);
        mma(Operand{}, out[j], a, b[0], b[1]);
        mma(Operand{}, out[j + 1], a, b[2], b[3]);
      });
    }
  }
};

using Bfloat16Arithmetic = HalfWidthArithmetic<__nv_bfloat16, Bfloat16Operand, 1>;
using Float16Arithmetic = HalfWidthArithmetic<__half, Float16Operand, 4096>;

struct Tf32Arithmetic {
  using Element = float;
  static constexpr int kElements = kTileRowBytes / 4;
  static constexpr int kOutputTiles = kElements / 8;
  static constexpr float kWeightScale = 1.0f;

  static __device__ __forceinline__ void scores(const unsigned char* queries, const unsigned char* keys, int elements,
                                                Scores& scores) {
    matrix_unit_scores<Tf32Operand, true>(queries, keys, 4 * elements, scores);
  }

  static __device__ __forceinline__ void accumulate(const Scores& weights, const unsigned char* keys, int elements,
                                                    float (&out)[kOutputTiles][4]) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int step = 0; step < kScoreTiles; ++step) {
      // The order of the summed index is free: operand columns t and t + 4 stand for keys 2t and 2t + 1, which is where
      // the accumulator has them, so no lane needs another's weights.
      const uint32_t a[4] = {to_tf32(weights[step][0]), to_tf32(weights[step][2]), to_tf32(weights[step][1]),
                             to_tf32(weights[step][3])};
      const auto* even = reinterpret_cast<const float*>(keys + (8 * step + 2 * t) * kTileStride) + g;
      const auto* odd = reinterpret_cast<const float*>(keys + (8 * step + 2 * t + 1) * kTileStride) + g;
      for_output_tiles<kOutputTiles, 1>(
          elements, [&](int j) { mma(Tf32Operand{}, out[j], a, to_tf32(even[8 * j]), to_tf32(odd[8 * j])); });
    }
  }
};

// Full float32 on the ordinary units.
struct Float32Arithmetic {
  using Element = float;
  static constexpr int kElements = kTileRowBytes / 4;
  static constexpr int kOutputTiles = kElements / 8;
  static constexpr float kWeightScale = 1.0f;

  static __device__ __forceinline__ const float* row(const unsigned char* tile, int index) {
    return reinterpret_cast<const float*>(tile + index * kTileStride);
  }

  static __device__ __forceinline__ void scores(const unsigned char* queries, const unsigned char* keys, int elements,
                                                Scores& scores) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, first_row = threadIdx.x / 32 * 16;
#pragma unroll 1
    for (int d = 0; d < elements; d += 4) {
      const float4 upper = *reinterpret_cast<const float4*>(row(queries, first_row + g) + d);
      const float4 lower = *reinterpret_cast<const float4*>(row(queries, first_row + g + 8) + d);
#pragma unroll
      for (int j = 0; j < kScoreTiles; ++j) {
#pragma unroll
        for (int side = 0; side < 2; ++side) {
          const float4 key = *reinterpret_cast<const float4*>(row(keys, 8 * j + 2 * t + side) + d);
          scores[j][side] = dot(upper, key, scores[j][side]);
          scores[j][side + 2] = dot(lower, key, scores[j][side + 2]);
        }
      }
    }
  }

  static __device__ __forceinline__ void accumulate(const Scores& weights, const unsigned char* keys, int elements,
                                                    float (&out)[kOutputTiles][4]) {
    const int lane = threadIdx.x % 32, t = lane % 4;
#pragma unroll 1  // unrolled, it spills
    for (int owner = 0; owner < 4;
         ++owner) {  // the lane of the quad that has the weights of keys 8i + 2 owner and the next
#pragma unroll
      for (int n = 0; n < 2 * kScoreTiles; ++n) {
        const int step = n / 2, side = n % 2;
        const float upper = __shfl_sync(kAllLanes, weights[step][side], lane - t + owner);
        const float lower = __shfl_sync(kAllLanes, weights[step][side + 2], lane - t + owner);
        const float* key = row(keys, 8 * step + 2 * owner + side) + 2 * t;
#pragma unroll
        for (int j = 0; j < kOutputTiles; ++j) {
          if (8 * j < elements) {  // here the branch is welcome: it keeps loads, and so registers, apart
            const float2 pair = *reinterpret_cast<const float2*>(key + 8 * j);
            out[j][0] = fmaf(upper, pair.x, out[j][0]);
            out[j][1] = fmaf(upper, pair.y, out[j][1]);
            out[j][2] = fmaf(lower, pair.x, out[j][2]);
            out[j][3] = fmaf(lower, pair.y, out[j][3]);
          }
        }
      }
    }
  }

 private:
  static __device__ __forceinline__ float dot(const float4& a, const float4& b, float sum) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
  }
};

}  // namespace motionops
