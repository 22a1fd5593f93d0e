// rasterize_motion_vectors on the GPU: a thread per cell, a block of threads per run of cells of one frame. The block
// reads its frame's rows into shared memory a piece at a time, and every thread looks at each in their order, so no sum
// depends on who came first. Reads 36 bytes a row and block of threads, writes each value once.
#include "codec/rasterize_motion_vectors.h"

#include "core/launch.h"

namespace motionops {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 20;

__global__ void __launch_bounds__(kThreads)
    rasterize_motion_vectors_kernel(const __grid_constant__ RasterizeMotionVectors args) {
  __shared__ MotionBlock blocks[kThreads];
  __shared__ int64_t rows_of_frame[2];
  const int64_t columns = args.cell_columns(), count = args.cell_rows() * columns;
  const int64_t parts = (count + kThreads - 1) / kThreads;
  for (int64_t item = blockIdx.x; item < args.frames * parts; item += gridDim.x) {
    const int64_t frame = item / parts, place = item % parts * kThreads + threadIdx.x;
    const int64_t top = place / columns * args.cell, left = place % columns * args.cell;
    const int64_t bottom = top + args.cell < args.height ? top + args.cell : args.height;
    const int64_t right = left + args.cell < args.width ? left + args.cell : args.width;
    __syncthreads();  // the rows of the item before are still being read
    // two warps search beside each other
    if (threadIdx.x % 32 == 0 && threadIdx.x < 64)
      rows_of_frame[threadIdx.x / 32] = args.first_row(frame + threadIdx.x / 32);
    __syncthreads();
    const int64_t end = rows_of_frame[1];
    MotionCell cell;
    for (int64_t begin = rows_of_frame[0]; begin < end; begin += kThreads) {
      const int size = end - begin < kThreads ? static_cast<int>(end - begin) : kThreads;
      __syncthreads();  // the piece before is still being read
      if (static_cast<int>(threadIdx.x) < size) {
        blocks[threadIdx.x] = MotionBlock::from_row(args.rows + (begin + threadIdx.x) * kMotionVectorColumns);
      }
      __syncthreads();
      for (int i = 0; i < size; ++i) {
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

}  // namespace

cudaError_t rasterize_motion_vectors_cuda(const RasterizeMotionVectors& args, cudaStream_t stream) {
  const int64_t count = args.cell_rows() * args.cell_columns();
  const int64_t blocks = args.frames * ((count + kThreads - 1) / kThreads);
  if (blocks == 0) return cudaSuccess;
  return launch(rasterize_motion_vectors_kernel, grid_of(blocks < kMostBlocks ? blocks : kMostBlocks), dim3(kThreads),
                0, stream, args);
}

}  // namespace motionops
