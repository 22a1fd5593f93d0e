// rasterize_motion_vectors on the CPU: parallel over frames; a block adds to the few cells that it touches.
#include "codec/rasterize_motion_vectors.h"

#include <algorithm>
#include <bit>
#include <vector>

namespace motionops {
namespace {

// The cells of one frame, sum beside sum, so that the means of a row of cells are one vectorised loop.
struct Cells {
  std::vector<double> u, v, covered;  // Σ a d and Σ a, whole numbers of pixels

  explicit Cells(int64_t count) : u(count), v(count), covered(count) {}

  void clear() {
    for (auto* sums : {&u, &v, &covered}) std::fill(sums->begin(), sums->end(), 0.0);
  }
};

void add_block(const RasterizeMotionVectors& args, const MotionBlock& block, Cells& cells) {
  const int64_t left = std::max<int64_t>(block.left, 0), right = std::min(block.right, args.width);
  const int64_t top = std::max<int64_t>(block.top, 0), bottom = std::min(block.bottom, args.height);
  if (left >= right || top >= bottom) return;
  // All of them are below 2³¹, where dividing takes a fraction of the time; cells are mostly powers of two.
  const auto side = static_cast<uint32_t>(args.cell);
  const bool power = std::has_single_bit(side);
  const int shift = std::countr_zero(side);
  const auto cell_of = [&](int64_t pixel) -> int64_t {
    const auto position = static_cast<uint32_t>(pixel);
    return power ? position >> shift : position / side;
  };
  const int64_t first = cell_of(left), last = cell_of(right - 1), lowest = cell_of(bottom - 1);
  for (int64_t y = cell_of(top); y <= lowest; ++y) {
    const int64_t rows = common_pixels(top, bottom, y * args.cell, (y + 1) * args.cell);
    for (int64_t x = first; x <= last; ++x) {
      const int64_t columns = common_pixels(left, right, x * args.cell, (x + 1) * args.cell);
      const int64_t place = y * args.cell_columns() + x;
      const auto pixels = static_cast<double>(rows * columns);
      cells.u[place] += pixels * block.u;
      cells.v[place] += pixels * block.v;
      cells.covered[place] += pixels;
    }
  }
}

void mean_cells(const double* __restrict sums, const double* __restrict covered, double pixels, int64_t count,
                float* __restrict means) {
  for (int64_t i = 0; i < count; ++i) {
    means[i] = static_cast<float>(sums[i] / (pixels > covered[i] ? pixels : covered[i]));
  }
}

}  // namespace

void rasterize_motion_vectors_cpu(const RasterizeMotionVectors& args, const Parallel& parallel) {
  constexpr int64_t kCellsPerTask = 16384;  // less does not pay for waking a thread
  const int64_t rows = args.cell_rows(), columns = args.cell_columns(), count = rows * columns;
  if (count == 0) return;
  parallel.run(0, args.frames, kCellsPerTask / count, [&](int64_t begin, int64_t end) {
    Cells cells(count);
    int64_t row = args.first_row(begin);
    for (int64_t frame = begin; frame < end; ++frame) {
      cells.clear();
      for (; row < args.row_count && args.frame_of(row) == frame; ++row) {
        add_block(args, MotionBlock::from_row(args.rows + row * kMotionVectorColumns), cells);
      }
      float* u = args.result + frame * 2 * count;
      for (int64_t y = 0; y < rows; ++y) {
        const int64_t high = std::min(args.cell, args.height - y * args.cell);
        const auto mean = [&](int64_t x, int64_t wide, int64_t cells_of_it) {  // cells of one size, side by side
          const int64_t place = y * columns + x;
          const auto pixels = static_cast<double>(high * wide);
          mean_cells(&cells.u[place], &cells.covered[place], pixels, cells_of_it, u + place);
          mean_cells(&cells.v[place], &cells.covered[place], pixels, cells_of_it, u + count + place);
        };
        mean(0, args.cell, columns - 1);
        mean(columns - 1, args.width - (columns - 1) * args.cell, 1);
      }
    }
  });
}

}  // namespace motionops
