// motion_map in double, and the cases that the CPU and the CUDA launchers are compared with it on.
#pragma once

#include <algorithm>
#include <cmath>

#include "flow/motion_map.h"
#include "flow_image_cases.h"

namespace motion_map_cases {

using namespace flow_image_cases;
using motionops::MotionMap;

struct Block {
  int64_t frames, rows, columns;
};

inline Values expected(const Values& field, const Size& size, const Block& block) {
  const int64_t height = size.height, width = size.width, plane = height * width;
  const int64_t steps = size.frames / block.frames, rows = height / block.rows, columns = width / block.columns;
  Values map(size.batch * steps * rows * columns);
  for (int64_t n = 0; n < size.batch * size.frames; ++n) {
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        double squares = 0;
        for (const int64_t channel : {0, 1}) {
          const double* f = field.data() + (2 * n + channel) * plane;
          const double across = f[y * width + std::min(x + 1, width - 1)] - f[y * width + std::max<int64_t>(x - 1, 0)];
          const double down = f[std::min(y + 1, height - 1) * width + x] - f[std::max<int64_t>(y - 1, 0) * width + x];
          squares += (across * across + down * down) / 4;
        }
        const int64_t step = n / size.frames * steps + n % size.frames / block.frames;
        map[(step * rows + y / block.rows) * columns + x / block.columns] += std::sqrt(squares);
      }
    }
  }
  for (double& value : map) value /= static_cast<double>(block.frames * block.rows * block.columns);
  return map;
}

template <typename T, typename Launch>
void run_case(Dtype dtype, const Size& size, const Block& block, double tolerance, const Launch& launch) {
  const Field<T> field(dtype, size);
  const Values truth = expected(field.values, size, block);
  const auto count = static_cast<int64_t>(truth.size());
  const Results<T> map(size, count);
  launch(MotionMap{field.images, block.frames, block.rows, block.columns, map.results, nullptr, nullptr}, true);
  check_values("map", map.results, truth, tolerance);

  const Weights<T> grad_map(size, count);
  const Results<T> grad_flow(size, 2 * size.pixels());
  launch(MotionMap{field.images, block.frames, block.rows, block.columns, nullptr, grad_map.weights, grad_flow.results},
         false);
  if (size.height * size.width == 1) {  // a root of 0, which differences cannot tell
    check_values("gradient", grad_flow.results, {0, 0}, 0);
    return;
  }
  const Size video{1, size.frames, size.height, size.width, 0};
  const Formula of_video = [&](const Values& values) { return expected(values, video, block); };
  check_values("gradient", grad_flow.results,
               numeric_gradient_by_video(of_video, field.values, grad_map.exact, size.batch), 2 * tolerance);
}

// launch(args, forward) starts the launcher under test; `few` is for the sanitizers, where a CUDA thread costs most.
template <typename Launch>
void run_all(bool few, const Launch& launch) {
  for (const Size& size : sizes(few)) {
    const auto smallest = [](int64_t number) {  // the smallest divisor above 1
      for (int64_t divisor = 2; divisor <= number; ++divisor) {
        if (number % divisor == 0) return divisor;
      }
      return int64_t{1};
    };
    const std::vector<Block> blocks{{1, 1, 1},
                                    {smallest(size.frames), smallest(size.height), smallest(size.width)},
                                    {1, smallest(size.height), size.width / smallest(size.width)},
                                    {1, size.height, size.width}};
    for (const Block& block : blocks) {
      for_dtypes(
          few, [&]<typename T>(Dtype dtype, double tolerance) { run_case<T>(dtype, size, block, tolerance, launch); });
    }
  }
}

}  // namespace motion_map_cases
