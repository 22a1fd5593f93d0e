// rasterize_motion_vectors on the GPU: a thread per cell, a block of threads per run of cells of one frame. The block
// reads rows a piece at a time, leaves those of its frame that touch its strip of cells in shared memory, and every thread
// looks at each in their order, so no sum depends on who came first. Writes each value once.
//
// Rows come sorted by frame from every decoder, and then a block reads those of its frame alone, 36 bytes a row and block.
// Whether they are is looked at before, by a kernel, as the host would have to wait for the answer; where they are not, every
// block reads all rows, which is slow and right.
#include "codec/rasterize_motion_vectors.h"

#include <algorithm>

#include "core/launch.h"
#include "core/warp.h"
#include "core/workspace.h"

namespace motionops {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 20;
constexpr int64_t kMostLooking = kThreads;  // blocks whose answers a block reads at once

// ascending[block]: whether each of its rows is of the frame of the row before it or of a later one.
__global__ void __launch_bounds__(kThreads)
    rows_ascend_kernel(const __grid_constant__ RasterizeMotionVectors args, int32_t* ascending) {
  bool mine = true;
  for (int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x + 1; row < args.row_count;
       row += int64_t{gridDim.x} * kThreads) {
    mine = mine && args.frame_of(row - 1) <= args.frame_of(row);
  }
  const int all = __syncthreads_and(mine);
  if (threadIdx.x == 0) ascending[blockIdx.x] = all;
}

__global__ void __launch_bounds__(kThreads)
    rasterize_motion_vectors_kernel(const __grid_constant__ RasterizeMotionVectors args, const int32_t* ascending,
                                    int looked) {
  __shared__ MotionBlock blocks[kThreads];
  __shared__ int per_warp[kThreads / 32];
  __shared__ int64_t rows_of_frame[2];
  const bool sorted = __syncthreads_and(static_cast<int>(threadIdx.x) >= looked || ascending[threadIdx.x] != 0) != 0;
  const int64_t columns = args.cell_columns(), count = args.cell_rows() * columns;
  const int64_t parts = (count + kThreads - 1) / kThreads;
  for (int64_t item = blockIdx.x; item < args.frames * parts; item += gridDim.x) {
    const int64_t frame = item / parts, first = item % parts * kThreads, place = first + threadIdx.x;
    const int64_t top = place / columns * args.cell, left = place % columns * args.cell;
    const int64_t bottom = min(top + args.cell, args.height), right = min(left + args.cell, args.width);
    const int64_t strip_top = first / columns * args.cell;
    const int64_t strip_bottom = min(((first + kThreads - 1) / columns + 1) * args.cell, args.height);
    __syncthreads();  // the rows of the item before are still being read
    // two warps search beside each other
    if (threadIdx.x % 32 == 0 && threadIdx.x < 64) {
      const int edge = static_cast<int>(threadIdx.x) / 32;
      rows_of_frame[edge] = sorted ? args.first_row(frame + edge) : edge * args.row_count;
    }
    __syncthreads();
    const int64_t end = rows_of_frame[1];
    MotionCell cell;
    for (int64_t begin = rows_of_frame[0]; begin < end; begin += kThreads) {
      const int64_t row = begin + threadIdx.x;
      MotionBlock mine{};
      if (row < end && args.frame_of(row) == frame)
        mine = MotionBlock::from_row(args.rows + row * kMotionVectorColumns);
      const bool touches =
          mine.top < strip_bottom && mine.bottom > strip_top && mine.left < args.width && mine.right > 0;
      const Numbered touching = block_number(touches, per_warp);  // its barrier: the piece before is no longer read
      if (touches) blocks[touching.number] = mine;
      __syncthreads();
      for (int i = 0; i < touching.count; ++i) {
        const MotionBlock& block = blocks[i];
        const int64_t pixels =
            common_pixels(block.left, block.right, left, right) * common_pixels(block.top, block.bottom, top, bottom);
        if (pixels > 0) cell.add(block, pixels);
      }
    }
    if (place < count) {
      const int64_t inside = (bottom - top) * (right - left);
      const auto weight = static_cast<double>(inside > cell.covered ? inside : cell.covered);
      float* u = args.result + frame * 2 * count + place;
      u[0] = static_cast<float>(cell.u / weight);
      u[count] = static_cast<float>(cell.v / weight);
    }
  }
}

// Blocks that look whether the rows ascend.
int64_t looking(const RasterizeMotionVectors& args) {
  return std::min((args.row_count + kThreads - 1) / kThreads, kMostLooking);
}

int32_t* take_answers(const RasterizeMotionVectors& args, Workspace& memory) {
  return memory.take<int32_t>(looking(args));
}

}  // namespace

size_t rasterize_motion_vectors_workspace_bytes(const RasterizeMotionVectors& args) {
  Workspace sizes(nullptr);
  take_answers(args, sizes);
  return sizes.bytes();
}

cudaError_t rasterize_motion_vectors_cuda(const RasterizeMotionVectors& args, void* workspace, cudaStream_t stream) {
  const int64_t count = args.cell_rows() * args.cell_columns();
  const int64_t blocks = args.frames * ((count + kThreads - 1) / kThreads), looked = looking(args);
  if (blocks == 0) return cudaSuccess;
  Workspace memory(workspace);
  int32_t* ascending = take_answers(args, memory);
  if (looked > 0) {
    const cudaError_t error = launch(rows_ascend_kernel, grid_of(looked), dim3(kThreads), 0, stream, args, ascending);
    if (error != cudaSuccess) return error;
  }
  return launch(rasterize_motion_vectors_kernel, grid_of(std::min(blocks, kMostBlocks)), dim3(kThreads), 0, stream,
                args, ascending, static_cast<int>(looked));
}

}  // namespace motionops
