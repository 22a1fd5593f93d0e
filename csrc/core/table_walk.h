// A block's way through a table of any width, a place for each thread at a time: a division to begin with and none for
// each step. The block is one-dimensional.
#pragma once

#include <cuda_runtime.h>

namespace motionops {

struct TableWalk {
  int row, column;

  __device__ __forceinline__ explicit TableWalk(int width)
      : row(static_cast<int>(threadIdx.x) / width),
        column(static_cast<int>(threadIdx.x) % width),
        width_(width),
        rows_on_(static_cast<int>(blockDim.x) / width),
        columns_on_(static_cast<int>(blockDim.x) % width) {}

  __device__ __forceinline__ void step() {
    row += rows_on_;
    column += columns_on_;
    if (column >= width_) {
      column -= width_;
      ++row;
    }
  }

 private:
  int width_, rows_on_, columns_on_;
};

}  // namespace motionops
