// What the CUDA stencils on flow fields share: a thread owns kWidth neighbouring columns of a strip of rows, and walks
// down it.
//
// Beyond its edges an image goes on as its mirror image, edge included (2 1 0 | 0 1 2 …). For forward that is the
// replicated edge. For backward it gives what is derived from it the signs that the adjoint of the replicated edge has
// there (what is antisymmetric in x, as a slope along x, is minus that at the edge), so that no pixel is a special
// case.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "core/device_types.h"
#include "core/launch.h"
#include "flow/flow_images.h"

namespace motionops {

inline constexpr int kStripRows = 16;
inline constexpr int kStripThreads = 128;

// For i up to two beyond the edge; an image of one row or column is that everywhere.
__device__ __forceinline__ int mirrored(int i, int size) {
  const int inside = i < 0 ? -1 - i : i < size ? i : 2 * size - 1 - i;
  return max(0, min(inside, size - 1));
}

// One row's values in columns x - kHalo to x + kWidth + kHalo - 1.
template <typename T, int kWidth, int kHalo>
struct Row {
  DeviceWide<T> values[kWidth + 2 * kHalo];

  // `row` points at column 0; x is a multiple of kWidth, and so is `width`.
  __device__ Row(const T* row, int x, int width) {
    if constexpr (kHalo > kWidth) {  // the mirror image lies in columns of other threads
#pragma unroll
      for (int i = 0; i < kWidth + 2 * kHalo; ++i)
        values[i] = device_widen(__ldg(row + mirrored(x - kHalo + i, width)));
    } else {
      const bool inside_left = x > 0, inside_right = x + kWidth < width;
      Pack<T, kHalo> left{}, right{};
      const auto own = load_pack<T, kWidth>(row + x);
      if (inside_left) left = load_pack<T, kHalo>(row + x - kHalo);
      if (inside_right) right = load_pack<T, kHalo>(row + x + kWidth);
#pragma unroll
      for (int i = 0; i < kWidth; ++i) values[kHalo + i] = device_widen(own.values[i]);
#pragma unroll
      for (int i = 0; i < kHalo; ++i) {
        values[i] = inside_left ? device_widen(left.values[i]) : values[2 * kHalo - 1 - i];
        values[kWidth + kHalo + i] = inside_right ? device_widen(right.values[i]) : values[kWidth + kHalo - 1 - i];
      }
    }
  }
};

template <typename T, int kWidth>
__device__ void store_row(T* to, const DeviceWide<T> (&values)[kWidth]) {
  Pack<T, kWidth> pack;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) pack.values[i] = device_narrow<T>(values[i]);
  *reinterpret_cast<Pack<T, kWidth>*>(to) = pack;
}

// One image's planes u and v.
template <typename T>
struct Planes {
  const T *u, *v;
  int64_t row_stride;
  int height, width;

  __device__ Planes(const FlowImages& images, unsigned n)
      : row_stride(images.row_stride), height(static_cast<int>(images.height)), width(static_cast<int>(images.width)) {
    const auto frames = static_cast<unsigned>(images.frames);  // 32 bits: a division of 64 is a hundred instructions
    u = static_cast<const T*>(images.flow) + n / frames * images.batch_stride + n % frames * images.frame_stride;
    v = u + images.channel_stride;
  }
  // Where row y begins.
  __device__ int64_t row(int y) const { return mirrored(y, height) * row_stride; }
};

// A thread's share: columns [x, x + kWidth) of rows [first, last) of image n.
struct Strip {
  unsigned n;
  int x, first, last;
};

inline int64_t strips_of(const FlowImages& images) { return (images.height + kStripRows - 1) / kStripRows; }

// False for the threads that are left over. Neighbouring threads own neighbouring columns.
template <int kWidth>
__device__ bool take_strip(const FlowImages& images, Strip& strip) {
  const unsigned index = blockIdx.x * kStripThreads + threadIdx.x;
  const auto groups = static_cast<unsigned>(images.width / kWidth);
  const auto height = static_cast<unsigned>(images.height), strips = (height + kStripRows - 1) / kStripRows;
  const unsigned row = index / groups;
  strip.n = row / strips;
  strip.x = static_cast<int>(index % groups * kWidth);
  strip.first = static_cast<int>(row % strips * kStripRows);
  strip.last = min(strip.first + kStripRows, static_cast<int>(height));
  return strip.n < image_count(images);
}

// Whether offsets within a row or column, and counts of threads, are 32 bits wide.
inline bool fits_32_bits(int64_t count) { return count <= std::numeric_limits<int32_t>::max() / 2; }
inline bool indices_fit(const FlowImages& images) {
  return fits_32_bits(image_count(images)) && fits_32_bits(images.height) && fits_32_bits(images.width);
}

// Starts `kernel` with a thread for each strip of kWidth columns.
template <int kWidth, typename... Parameters>
cudaError_t launch_strips(void (*kernel)(Parameters...), const FlowImages& images, cudaStream_t stream,
                          std::type_identity_t<Parameters>... arguments) {
  const int64_t threads = image_count(images) * strips_of(images) * (images.width / kWidth);
  if (!indices_fit(images) || !fits_32_bits(threads)) return cudaErrorInvalidConfiguration;
  const int64_t blocks = (threads + kStripThreads - 1) / kStripThreads;
  return launch(kernel, grid_of(blocks), dim3(kStripThreads), 0, stream, arguments...);
}

// Whether every row of u, v and of the contiguous `result`, or its gradient, may be read or written `width` elements at
// a time.
template <typename T>
bool rows_are_aligned(const FlowImages& images, int64_t width, const void* result) {
  const auto fits = [width](int64_t elements) { return elements % width == 0; };
  const auto aligned = [width](const void* pointer) {
    return reinterpret_cast<uintptr_t>(pointer) % (width * sizeof(T)) == 0;
  };
  return fits(images.width) && fits(images.row_stride) && fits(images.channel_stride) && fits(images.frame_stride) &&
         fits(images.batch_stride) && aligned(images.flow) && aligned(result);
}

// start.template operator()<kWidth>() with the most columns, 16 bytes at most, that fits(kWidth) allows a thread.
template <typename T, typename Fits, typename Start>
cudaError_t with_width(const Fits& fits, const Start& start) {
  constexpr int kMost = 16 / sizeof(T);
  if (fits(kMost)) return start.template operator()<kMost>();
  if constexpr (kMost == 8) {
    if (fits(4)) return start.template operator()<4>();
  }
  return start.template operator()<1>();
}

}  // namespace motionops
