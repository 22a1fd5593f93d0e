// The matrix units, one instruction at a time: D += A · B for a warp, accumulated in float32.
//
// With g = lane / 4 and t = lane % 4, the accumulator d[0..3] of a 16x8 tile holds (g, 2t), (g, 2t+1), (g+8, 2t), (g+8,
//   2t+1). 16-bit, 16x8x16: a[0..3] are the pairs of columns 2t, 2t+1 of rows g and g+8, then columns 2t+8, 2t+9 of
//                    both; b[0..1] are the pairs of rows 2t, 2t+1 and 2t+8, 2t+9 of column g.
//   tf32, 16x8x8:    a[0..3] are (g, t), (g+8, t), (g, t+4), (g+8, t+4); b[0..1] are (t, g), (t+4, g).
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

namespace motionops {

struct Bfloat16Operand {};
struct Float16Operand {};
struct Tf32Operand {};

#ifdef __CUDACC__

__device__ __forceinline__ void mma(Bfloat16Operand, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma(Float16Operand, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma(Tf32Operand, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// float32 to tf32, to nearest with ties away from zero; the matrix units by themselves would cut the low bits off.
__device__ __forceinline__ uint32_t to_tf32(float value) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
}

// 2^x to two units in the last place; subnormal results are zero.
__device__ __forceinline__ float exp2_approximate(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

#else

namespace mma_twin {

struct Lane {
  float* d;
  const uint32_t* a;
  uint32_t b[2];
};

inline float half_of(Bfloat16Operand, uint32_t word, int half) {
  return __bfloat162float({static_cast<uint16_t>(word >> (16 * half))});
}
inline float half_of(Float16Operand, uint32_t word, int half) {
  return __half2float({static_cast<uint16_t>(word >> (16 * half))});
}

// To float32 toward zero, as the unit does after each instruction: long chains of it lose more than rounding would.
inline float cut(double value) {
  const float nearest = static_cast<float>(value);
  const bool farther = std::isfinite(nearest) && std::fabs(static_cast<double>(nearest)) > std::fabs(value);
  return farther ? std::nextafter(nearest, 0.0f) : nearest;
}

// Gathers A [16, k] and B [k, 8] from the lanes, multiplies, and adds to each lane's part of D.
template <typename Operand>
void combine(void* const records[32]) {
  constexpr bool kTf32 = std::is_same_v<Operand, Tf32Operand>;
  constexpr int kDepth = kTf32 ? 8 : 16;
  float a[16][kDepth], b[8][kDepth];
  for (int lane = 0; lane < 32; ++lane) {
    const auto* mine = static_cast<const Lane*>(records[lane]);
    const int g = lane / 4, t = lane % 4;
    if constexpr (kTf32) {
      for (int i = 0; i < 4; ++i) a[g + 8 * (i % 2)][t + 4 * (i / 2)] = __uint_as_float(mine->a[i] & 0xffffe000u);
      for (int i = 0; i < 2; ++i) b[g][t + 4 * i] = __uint_as_float(mine->b[i] & 0xffffe000u);
    } else {
      for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < 4; ++i)
          a[g + 8 * (i % 2)][2 * t + half + 8 * (i / 2)] = half_of(Operand{}, mine->a[i], half);
        for (int i = 0; i < 2; ++i) b[g][2 * t + half + 8 * i] = half_of(Operand{}, mine->b[i], half);
      }
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto* mine = static_cast<const Lane*>(records[lane]);
    for (int i = 0; i < 4; ++i) {
      const float* row = a[lane / 4 + 8 * (i / 2)];
      const float* column = b[lane % 4 * 2 + i % 2];
      double sum = mine->d[i];  // the unit, too, adds the products of one instruction before it cuts to float32
      for (int k = 0; k < kDepth; ++k) sum += static_cast<double>(row[k]) * column[k];
      mine->d[i] = cut(sum);
    }
  }
}

}  // namespace mma_twin

template <typename Operand>
void mma(Operand, float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  mma_twin::Lane lane{d, a, {b0, b1}};
  emulator::warp_collective(0xffffffffu, &lane, mma_twin::combine<Operand>);
}

inline uint32_t to_tf32(float value) {
  const uint32_t bits = __float_as_uint(value);
  const bool special = (bits & 0x7f800000u) == 0x7f800000u;
  return special ? bits : (bits + 0x1000u) & 0xffffe000u;
}

inline float exp2_approximate(float x) {
  const float result = std::exp2(x);
  return result < std::numeric_limits<float>::min() ? 0.0f : result;
}

#endif

// Two floats as one operand word: the first in the low half.
__device__ __forceinline__ uint32_t pack(Bfloat16Operand, float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t word;
  memcpy(&word, &pair, sizeof(word));
  return word;
}
__device__ __forceinline__ uint32_t pack(Float16Operand, float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  uint32_t word;
  memcpy(&word, &pair, sizeof(word));
  return word;
}

}  // namespace motionops
