// rasterize_motion_vectors: the blocks of a video codec's motion vectors as maps of displacement on a grid of cells.
//
// Formula, for cell c of frame f: P is the number of its pixels inside the picture, a_i the number of those that block i of
//   frame f covers, and d_i = motion_i / (scale_i source_i) the block's displacement in pixels a frame:
//     result(f, :, c) = (Σ_i a_i d_i) / max(P, Σ_i a_i)
//   Where blocks do not overlap this is the mean over all pixels of the cell, those without a vector counting as still.
//   Where they do (a block that is predicted from both sides) it is their mean.
// Shapes: rows [N, 9] int32, on the CPU sorted by frame: frame, source, w, h, dst_x, dst_y, motion_x, motion_y, scale, as FFmpeg's
//   AVMotionVector names them; a block covers the pixels from dst - floor(size / 2), `size` of them.
//   result [frames, 2, rows of cells, columns of cells].
// Rows without a block or a displacement (w, h or scale below 1, source 0) do not count.
// Numerics: sums in float64, in the order of the rows, rounded once to float32: the same from run to run on any device.
// Cost: CPU, one pass over the rows; CUDA, every cell looks at the rows of its frame that touch its strip of cells, where rows
//   are sorted by frame; else every 256 cells read all rows.
#pragma once

#include <cstdint>

#include "core/parallel.h"

#if defined(__CUDACC__) || defined(MOTIONOPS_WITH_CUDA) || defined(MOTIONOPS_EMULATED)
#define MOTIONOPS_DECLARE_CUDA_LAUNCHERS
#include <cuda_runtime.h>
#define MOTIONOPS_CODEC_FUNCTION __host__ __device__ inline
#else
#define MOTIONOPS_CODEC_FUNCTION inline
#endif

namespace motionops {

inline constexpr int kMotionVectorColumns = 9;

// The pixels of a block and their displacement.
struct MotionBlock {
  int64_t left, top, right, bottom;  // half open
  double u, v;                       // pixels a frame: to the right, down

  // Without a block or a displacement all is 0, and no pixel is covered.
  MOTIONOPS_CODEC_FUNCTION static MotionBlock from_row(const int32_t* row) {
    const int64_t source = row[1], width = row[2], height = row[3], scale = row[8];
    if (source == 0 || width < 1 || height < 1 || scale < 1) return {};
    const int64_t left = row[4] - width / 2, top = row[5] - height / 2;
    const double divisor = static_cast<double>(scale * source);
    return {left, top, left + width, top + height, row[6] / divisor, row[7] / divisor};
  }
};

struct RasterizeMotionVectors {
  const int32_t* rows;  // [N, 9]
  int64_t row_count;    // N
  int64_t frames;
  int64_t height;  // of the picture, pixels
  int64_t width;
  int64_t cell;   // side of a cell, pixels
  float* result;  // [frames, 2, cell_rows, cell_columns]

  MOTIONOPS_CODEC_FUNCTION int64_t cell_rows() const { return (height + cell - 1) / cell; }
  MOTIONOPS_CODEC_FUNCTION int64_t cell_columns() const { return (width + cell - 1) / cell; }

  MOTIONOPS_CODEC_FUNCTION int32_t frame_of(int64_t row) const { return rows[row * kMotionVectorColumns]; }

  // Of sorted rows the first that is of `frame` or of a later one: the rows of frame f are first_row(f) .. first_row(f + 1) - 1.
  MOTIONOPS_CODEC_FUNCTION int64_t first_row(int64_t frame) const {
    int64_t low = 0, high = row_count;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (frame_of(middle) < frame) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  }
};

// What a cell holds: the sums over the blocks of its frame.
struct MotionCell {
  double u = 0, v = 0;  // Σ a d
  int64_t covered = 0;  // Σ a

  MOTIONOPS_CODEC_FUNCTION void add(const MotionBlock& block, int64_t pixels) {
    u += static_cast<double>(pixels) * block.u;
    v += static_cast<double>(pixels) * block.v;
    covered += pixels;
  }
};

// How many of the pixels begin .. end - 1 lie in low .. high - 1.
MOTIONOPS_CODEC_FUNCTION int64_t common_pixels(int64_t begin, int64_t end, int64_t low, int64_t high) {
  const int64_t first = begin > low ? begin : low, last = end < high ? end : high;
  return last > first ? last - first : 0;
}

void rasterize_motion_vectors_cpu(const RasterizeMotionVectors& args, const Parallel& parallel);

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
size_t rasterize_motion_vectors_workspace_bytes(const RasterizeMotionVectors& args);
cudaError_t rasterize_motion_vectors_cuda(const RasterizeMotionVectors& args, void* workspace, cudaStream_t stream);
#endif

}  // namespace motionops
