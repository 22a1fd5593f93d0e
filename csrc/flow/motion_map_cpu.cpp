// Parallel over images and strips of their rows, or over rows of blocks. Three rows of u and v are in use at a time and stay
// in the first-level cache, so every flow value is read from memory once. With a grid the map lives one row at a time.
#include "flow/motion_map.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/simd_target.h"
#include "flow/row_strips.h"

namespace motionops {
namespace {

#define MOTIONOPS_SIMD_FILE "flow/motion_map_cpu.inl"
#include "core/simd_targets.inl"

template <typename T>
void map_blocks(const MotionMap& args, const Parallel& parallel) {
  const FlowImages& images = args.images;
  const int64_t steps = images.frames / args.block_frames, rows = images.height / args.block_rows;
  constexpr int64_t kPixelsPerTask = 16384;  // less does not pay for waking a thread
  const int64_t pixels = args.block_frames * args.block_rows * images.width;
  parallel.run(0, images.batch * steps * rows, kPixelsPerTask / pixels, [&](int64_t begin, int64_t end) {
    std::vector<Wide<T>> line(images.width);
    std::vector<double> sums(images.width / args.block_columns);
    for (int64_t item = begin; item < end; ++item) {
      MOTIONOPS_SIMD_CALL(
          map_block_row<T>(args, item / rows / steps, item / rows % steps, item % rows, line.data(), sums.data()));
    }
  });
}

}  // namespace

void motion_map_forward_cpu(const MotionMap& args, const Parallel& parallel) {
  for_dtype(args.images.dtype, [&]<typename T>() {
    if (args.has_grid()) return map_blocks<T>(args, parallel);
    for_row_strips<T>(args.images, 0, parallel, [&](int64_t n, int64_t first, int64_t last, T*) {
      MOTIONOPS_SIMD_CALL(map_rows<T>(args, n, first, last));
    });
  });
}

void motion_map_backward_cpu(const MotionMap& args, const Parallel& parallel) {
  for_dtype(args.images.dtype, [&]<typename T>() {
    for_row_strips<Wide<T>>(args.images, 13 * (args.images.width + 2), parallel,
                            [&](int64_t n, int64_t first, int64_t last, Wide<T>* scratch) {
                              MOTIONOPS_SIMD_CALL(map_rows_backward<T>(args, n, first, last, scratch));
                            });
  });
}

}  // namespace motionops
