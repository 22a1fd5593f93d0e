// rasterize_motion_vectors pixel by pixel, and the cases that the CPU and the CUDA launcher are compared with it on.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "codec/rasterize_motion_vectors.h"

namespace rasterize_motion_vectors_cases {

using motionops::kMotionVectorColumns;
using motionops::RasterizeMotionVectors;

struct Case {
  int64_t blocks, frames, height, width, cell;
};

// What the pixels of every cell sum up to, divided at the end.
inline std::vector<double> expected(const RasterizeMotionVectors& args) {
  const int64_t columns = args.cell_columns(), count = args.cell_rows() * columns;
  std::vector<double> result(args.frames * 2 * count);
  for (int64_t frame = 0; frame < args.frames; ++frame) {
    std::vector<int64_t> pixels(count), covered(count);
    for (int64_t y = 0; y < args.height; ++y) {
      for (int64_t x = 0; x < args.width; ++x) {
        const int64_t place = y / args.cell * columns + x / args.cell;
        ++pixels[place];
        for (int64_t i = 0; i < args.row_count; ++i) {
          const int32_t* row = args.rows + i * kMotionVectorColumns;
          if (row[0] != frame) continue;
          const int64_t left = row[4] - row[2] / 2, top = row[5] - row[3] / 2;
          if (row[1] == 0 || row[2] < 1 || row[3] < 1 || row[8] < 1) continue;
          if (x < left || x >= left + row[2] || y < top || y >= top + row[3]) continue;
          ++covered[place];
          for (const int channel : {0, 1}) {
            result[(frame * 2 + channel) * count + place] += static_cast<double>(row[6 + channel]) / (row[8] * row[1]);
          }
        }
      }
    }
    for (const int channel : {0, 1}) {
      for (int64_t place = 0; place < count; ++place) {
        result[(frame * 2 + channel) * count + place] /= static_cast<double>(std::max(pixels[place], covered[place]));
      }
    }
  }
  return result;
}

// `shuffled`: rows in any order.
template <typename Launch>
void run_case(const Case& size, bool shuffled, const Launch& launch) {
  std::mt19937 generator(7);
  const auto between = [&](int64_t low, int64_t high) {
    return static_cast<int32_t>(std::uniform_int_distribution<int64_t>(low, high)(generator));
  };
  // allocated to the byte, so that reading or writing past it is seen
  std::unique_ptr<int32_t[]> rows(new int32_t[size.blocks * kMotionVectorColumns]);
  for (int64_t i = 0; i < size.blocks; ++i) {
    // rows of frames before the first and after the last; blocks partly and wholly outside; rows that do not count
    const int32_t frame = static_cast<int32_t>(i * (size.frames + 2) / size.blocks) - 1;
    const int32_t row[kMotionVectorColumns] = {frame,
                                               between(-2, 1),
                                               between(0, 20),
                                               between(-1, 20),
                                               between(-15, size.width + 15),
                                               between(-15, size.height + 15),
                                               between(-99, 99),
                                               between(-99, 99),
                                               between(0, 4)};
    std::memcpy(&rows[i * kMotionVectorColumns], row, sizeof(row));
  }
  for (int64_t i = shuffled ? size.blocks - 1 : 0; i > 0; --i) {
    const int64_t other = between(0, i);
    std::swap_ranges(&rows[i * kMotionVectorColumns], &rows[(i + 1) * kMotionVectorColumns],
                     &rows[other * kMotionVectorColumns]);
  }
  RasterizeMotionVectors args{rows.get(), size.blocks, size.frames, size.height, size.width, size.cell, nullptr};
  const std::vector<double> wanted = expected(args);
  std::unique_ptr<float[]> result(new float[wanted.size()]);
  args.result = result.get();
  launch(args);
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double tolerance = 1e-9 + std::fabs(wanted[i]) / (1 << 24);  // one rounding to float
    CHECK(close_to(result[i], wanted[i], tolerance), "%d x %d, value %d: %g instead of %g",
          static_cast<int>(size.height), static_cast<int>(size.width), static_cast<int>(i), result[i], wanted[i]);
  }
}

// `few` is for the sanitizers, where a CUDA thread costs most.
template <typename Launch>
void run_all(bool few, bool any_order, const Launch& launch) {
  if (any_order) run_case({900, 1, 24, 37, 8}, true, launch);
  run_case({900, 1, 24, 37, 8}, false,
           launch);  // 300 rows in the frame, more than a CUDA block of threads takes at a time
  if (few) return;
  for (const Case& size : {Case{40, 3, 33, 50, 5},
                           {2200, 2, 40, 40, 2},
                           {3, 1, 80, 24, 3},  // 216 cells, the last strip with rows that the first has not
                           {300, 2, 200, 24, 3},
                           {20, 2, 16, 16, 16},
                           {20, 1, 7, 3, 100},
                           {0, 2, 9, 9, 4},
                           {10, 2, 0, 9, 4},
                           {10, 0, 9, 9, 4}}) {
    run_case(size, false, launch);
    if (any_order) run_case(size, true, launch);
  }
}

}  // namespace rasterize_motion_vectors_cases
