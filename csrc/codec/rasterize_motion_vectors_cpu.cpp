// rasterize_motion_vectors on the CPU: parallel over frames; a block adds to the few cells that it touches.
#include "codec/rasterize_motion_vectors.h"

#include <algorithm>
#include <vector>

namespace motionops {
namespace {

void add_block(const RasterizeMotionVectors& args, const MotionBlock& block, std::vector<MotionCell>& cells) {
  const int64_t left = std::max<int64_t>(block.left, 0), right = std::min(block.right, args.width);
  const int64_t top = std::max<int64_t>(block.top, 0), bottom = std::min(block.bottom, args.height);
  if (left >= right || top >= bottom) return;
  for (int64_t y = top / args.cell; y <= (bottom - 1) / args.cell; ++y) {
    const int64_t rows = common_pixels(top, bottom, y * args.cell, (y + 1) * args.cell);
    for (int64_t x = left / args.cell; x <= (right - 1) / args.cell; ++x) {
      const int64_t columns = common_pixels(left, right, x * args.cell, (x + 1) * args.cell);
      cells[y * args.cell_columns() + x].add(block, rows * columns);
    }
  }
}

}  // namespace

void rasterize_motion_vectors_cpu(const RasterizeMotionVectors& args, const Parallel& parallel) {
  constexpr int64_t kCellsPerTask = 16384;  // less does not pay for waking a thread
  const int64_t rows = args.cell_rows(), columns = args.cell_columns(), count = rows * columns;
  if (count == 0) return;
  parallel.run(0, args.frames, kCellsPerTask / count, [&](int64_t begin, int64_t end) {
    std::vector<MotionCell> cells(count);
    for (int64_t frame = begin; frame < end; ++frame) {
      std::fill(cells.begin(), cells.end(), MotionCell{});
      for (int64_t i = args.starts[frame]; i < args.starts[frame + 1]; ++i) {
        add_block(args, MotionBlock::from_row(args.rows + i * kMotionVectorColumns), cells);
      }
      float* u = args.result + frame * 2 * count;
      float* v = u + count;
      for (int64_t place = 0; place < count; ++place) {
        const int64_t y = place / columns * args.cell, x = place % columns * args.cell;
        const int64_t pixels = std::min(args.cell, args.height - y) * std::min(args.cell, args.width - x);
        const auto weight = static_cast<double>(std::max(pixels, cells[place].covered));
        u[place] = static_cast<float>(cells[place].u / weight);
        v[place] = static_cast<float>(cells[place].v / weight);
      }
    }
  });
}

}  // namespace motionops
