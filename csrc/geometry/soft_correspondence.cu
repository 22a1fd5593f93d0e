// soft_correspondence on the GPU. A block makes the rows of query cells that differ in their x alone, for a tile of key
// cells: there S is a column of overlaps along t and y times a row of overlaps along x, and both are first put into
// shared memory. A thread keeps to one key cell and goes down the rows, neighbouring threads are on neighbouring key
// cells: a product, a rounding and a store an element. Each element is written once and next to nothing is read.
#include "geometry/soft_correspondence.h"

#include <algorithm>
#include <limits>

#include "core/launch.h"
#include "core/table_walk.h"

namespace motionops {
namespace {

constexpr int kMostThreads = 256;
// Sizes of a tile, so that the shared memory of no grid is more than 32 KB.
constexpr int64_t kMostWidth = 512;       // key cells along x
constexpr int64_t kMostKeyCells = 2048;   // key cells
constexpr int64_t kMostOverlaps = 2048;   // query cells times key cells, along x
constexpr int64_t kMostTileBlocks = 256;  // beside each other; they share the tiles of more key cells

// How S is cut into tiles; the last ones along an axis are smaller.
struct Tiling {
  int rows;   // query cells along x
  int pairs;  // key cells along t and y
  int width;  // key cells along x
  int all_pairs;
  unsigned row_groups, width_groups;
  unsigned tiles;  // of key cells
};

// A block for each (b, query t, query y, group of rows); along the grid's z the tiles of key cells.
template <typename T>
__global__ void __launch_bounds__(kMostThreads)
    soft_correspondence_kernel(const __grid_constant__ SoftCorrespondence args, const __grid_constant__ Tiling tiling) {
  auto* along_ty = reinterpret_cast<double*>(dynamic_shared_memory());  // [pairs]
  double* along_x = along_ty + tiling.pairs;                            // [rows][width]
  const Grid &query_grid = args.query_grid, &key_grid = args.key_grid;
  // The launcher saw that these fit 32 bits, in which a division costs a third.
  const auto query_t_cells = static_cast<unsigned>(query_grid.cells[0]);
  const auto query_y_cells = static_cast<unsigned>(query_grid.cells[1]);
  const auto key_y_cells = static_cast<unsigned>(key_grid.cells[1]);
  const int query_x_cells = static_cast<int>(query_grid.cells[2]), key_x_cells = static_cast<int>(key_grid.cells[2]);
  const unsigned ty = blockIdx.x / tiling.row_groups, b = ty / query_y_cells / query_t_cells;
  const int first_row = static_cast<int>(blockIdx.x % tiling.row_groups) * tiling.rows;
  const int rows = min(tiling.rows, query_x_cells - first_row);
  const auto overlap = [&](int axis, int64_t i, int64_t j) {
    return axis_overlap(args.query_extent + int64_t{b} * 6, query_grid, i, args.key_extent + int64_t{b} * 6, key_grid,
                        j, axis);
  };
  const int64_t columns = key_grid.count();
  T* first = static_cast<T*>(args.result) + (int64_t{ty} * query_x_cells + first_row) * columns;

  for (unsigned tile = blockIdx.z; tile < tiling.tiles; tile += gridDim.z) {
    const int first_pair = static_cast<int>(tile / tiling.width_groups) * tiling.pairs;
    const int first_x = static_cast<int>(tile % tiling.width_groups) * tiling.width;
    const int pairs = min(tiling.pairs, tiling.all_pairs - first_pair);
    const int width = min(tiling.width, key_x_cells - first_x);
    for (int place = threadIdx.x; place < pairs; place += blockDim.x) {
      const unsigned pair = first_pair + place;
      along_ty[place] = overlap(0, ty / query_y_cells % query_t_cells, pair / key_y_cells) *
                        overlap(1, ty % query_y_cells, pair % key_y_cells);
    }
    for (TableWalk at(width); at.row < rows; at.step()) {
      along_x[at.row * width + at.column] = overlap(2, first_row + at.row, first_x + at.column);
    }
    __syncthreads();
    T* corner = first + int64_t{first_pair} * key_x_cells + first_x;
    for (TableWalk at(width); at.row < pairs; at.step()) {
      const double share = along_ty[at.row];
      const double* overlaps = along_x + at.column;
      T* to = corner + int64_t{at.row} * key_x_cells + at.column;
#pragma unroll 4
      for (int row = 0; row < rows; ++row, overlaps += width, to += columns) *to = static_cast<T>(share * *overlaps);
    }
    __syncthreads();  // the tables are written again
  }
}

int64_t groups_of(int64_t count, int64_t most) { return (count + most - 1) / most; }

// `most` at a time or fewer, such that all groups are about alike.
int64_t even_share(int64_t count, int64_t most) {
  return groups_of(count, groups_of(count, std::max<int64_t>(1, std::min(most, count))));
}

template <typename T>
cudaError_t run(const SoftCorrespondence& args, cudaStream_t stream) {
  const auto& query = args.query_grid.cells;
  const auto& key = args.key_grid.cells;
  const int64_t all_pairs = key[0] * key[1];
  const int64_t width = even_share(key[2], kMostWidth), pairs = even_share(all_pairs, kMostKeyCells / width);
  const int64_t rows = even_share(query[2], kMostOverlaps / width);
  const int64_t width_groups = groups_of(key[2], width), tiles = groups_of(all_pairs, pairs) * width_groups;
  const int64_t row_groups = groups_of(query[2], rows), blocks = args.batch * query[0] * query[1] * row_groups;
  for (const int64_t count : {all_pairs, key[2], query[2], tiles}) {
    if (count > std::numeric_limits<int32_t>::max()) return cudaErrorInvalidConfiguration;
  }
  const Tiling tiling{
      static_cast<int>(rows),      static_cast<int>(pairs),           static_cast<int>(width),
      static_cast<int>(all_pairs), static_cast<unsigned>(row_groups), static_cast<unsigned>(width_groups),
      static_cast<unsigned>(tiles)};
  // No more threads than give each as many key cells, but for what a warp rounds up.
  const int64_t threads = (even_share(pairs * width, kMostThreads) + 31) / 32 * 32;
  const dim3 grid = grid_of(blocks, std::min(tiles, kMostTileBlocks));
  return launch(soft_correspondence_kernel<T>, grid, dim3(static_cast<unsigned>(threads)),
                (pairs + rows * width) * sizeof(double), stream, args, tiling);
}

}  // namespace

cudaError_t soft_correspondence_cuda(const SoftCorrespondence& args, cudaStream_t stream) {
  if (args.batch == 0 || args.query_grid.count() == 0 || args.key_grid.count() == 0) return cudaSuccess;
  return args.wide ? run<double>(args, stream) : run<float>(args, stream);
}

}  // namespace motionops
