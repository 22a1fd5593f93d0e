// How rows of features come into a tile in shared memory, by all threads of a CTA: copied beside the work where they are of
// the products' type, rounded on their way where they are stored in another.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "contrast/feature_element.cuh"
#include "core/cp_async.h"
#include "core/device_types.h"
#include "core/matrix_tile.h"

namespace motionops::streaming {

// Asks for 64 rows, elements first .. first + elements of each, zeros where there is no row (pointer null) or no
// element. `together` is row 0 where all 64 follow each other in memory, which makes the addresses cheap; otherwise
// null.
template <typename Element, typename RowPointer>
__device__ __forceinline__ void load_tile(unsigned char* tile, RowPointer row_pointer, const void* together,
                                          const void* anything, int64_t first, int elements, int64_t dim,
                                          bool vectors) {
  constexpr int kPerPiece = 16 / sizeof(Element), kPieces = kTileElements / kPerPiece,
                kRowStep = kTileThreads / kPieces;
  constexpr int kStride = kTileStride<Element>;
  if (vectors && together != nullptr) {
    const int piece = threadIdx.x % kPieces, offset = piece * kPerPiece, row = threadIdx.x / kPieces;
    if (offset < elements) {
      const bool valid = first + offset < dim;
      const Element* source = static_cast<const Element*>(together) + (valid ? row * dim + first + offset : 0);
      unsigned char* target = tile + row * kStride + piece * 16;
#pragma unroll
      for (int i = 0; i < kTileRows / kRowStep; ++i) {
        copy_async<16>(target + i * kRowStep * kStride, source, valid);
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
        copy_async<16>(tile + row * kStride + piece * 16, valid ? source + first + offset : anything, valid);
      }
    }
  } else {
    // Rows that start anywhere: element by element, in plain words, for which zero is zero.
    using Word = std::conditional_t<sizeof(Element) == 2, uint16_t, uint32_t>;
    for (int row = threadIdx.x / 32; row < kTileRows; row += kTileWarps) {
      const auto* source = static_cast<const Word*>(row_pointer(row));
      for (int offset = threadIdx.x % 32; offset < elements; offset += 32) {
        const bool valid = source != nullptr && first + offset < dim;
        reinterpret_cast<Word*>(tile + row * kStride)[offset] = valid ? source[first + offset] : Word{0};
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
      reinterpret_cast<Element*>(tile + row * kTileStride<Element>)[offset] =
          valid ? source.rounded<Element>(first + offset) : device_narrow<Element>(0.0f);
    }
  }
}

}  // namespace motionops::streaming
