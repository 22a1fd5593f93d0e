// ldmatrix: four 8x8 matrices of 16-bit elements from shared memory into the fragment layout of the matrix units.
//
// Lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, 16-byte aligned). Of matrix i, lane l receives in
// out[i] the word l % 4 of row l / 4 - or, transposed, the elements (2 (l % 4), l / 4) and (2 (l % 4) + 1, l / 4). A
// row of 32-bit elements is four words, so the plain form also loads tf32 fragments.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace motionops {

#ifdef __CUDACC__

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void load_matrices(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}

#else

namespace ldmatrix_twin {

struct Lane {
  const unsigned char* row;
  uint32_t* out;
};

template <bool kTransposed>
void combine(void* const records[32]) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t elements[8][8];
    for (int row = 0; row < 8; ++row) {
      const auto* source = reinterpret_cast<const uint16_t*>(static_cast<Lane*>(records[8 * matrix + row])->row);
      for (int column = 0; column < 8; ++column) elements[row][column] = source[column];
    }
    for (int lane = 0; lane < 32; ++lane) {
      const int group = lane / 4, pair = lane % 4 * 2;
      const uint32_t low = kTransposed ? elements[pair][group] : elements[group][pair];
      const uint32_t high = kTransposed ? elements[pair + 1][group] : elements[group][pair + 1];
      static_cast<Lane*>(records[lane])->out[matrix] = low | high << 16;
    }
  }
}

}  // namespace ldmatrix_twin

inline void load_matrices(uint32_t (&out)[4], const void* row) {
  ldmatrix_twin::Lane lane{static_cast<const unsigned char*>(row), out};
  emulator::warp_collective(0xffffffffu, &lane, ldmatrix_twin::combine<false>);
}

inline void load_matrices_transposed(uint32_t (&out)[4], const void* row) {
  ldmatrix_twin::Lane lane{static_cast<const unsigned char*>(row), out};
  emulator::warp_collective(0xffffffffu, &lane, ldmatrix_twin::combine<true>);
}

#endif

}  // namespace motionops
