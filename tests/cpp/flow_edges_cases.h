// flow_edges in double, and the cases that the CPU and the CUDA launchers are compared with it on.
#pragma once

#include <algorithm>
#include <cmath>

#include "flow/flow_edges.h"
#include "flow_image_cases.h"

namespace flow_edges_cases {

using namespace flow_image_cases;
using motionops::FlowEdges;

inline Values expected(const Values& field, const Size& size, double max_value) {
  const int64_t height = size.height, width = size.width, plane = height * width;
  Values edges;
  for (int64_t n = 0; n < size.batch * size.frames; ++n) {
    const auto magnitude = [&](int64_t y, int64_t x) {
      const int64_t at =
          2 * n * plane + std::clamp<int64_t>(y, 0, height - 1) * width + std::clamp<int64_t>(x, 0, width - 1);
      return std::hypot(field[at], field[at + plane]);
    };
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        double gx = 0, gy = 0;
        for (const int64_t i : {-1, 0, 1}) {
          const double weight = i == 0 ? 2 : 1;
          gx += weight * (magnitude(y + i, x + 1) - magnitude(y + i, x - 1));
          gy += weight * (magnitude(y + 1, x + i) - magnitude(y - 1, x + i));
        }
        edges.push_back(std::min(std::hypot(gx, gy), max_value));
      }
    }
  }
  return edges;
}

template <typename T, typename Launch>
void run_case(Dtype dtype, const Size& size, double tolerance, const Launch& launch) {
  const Field<T> field(dtype, size);
  for (const double max_value : {5.0, 1e3}) {
    const Results<T> edges(size, size.pixels());
    launch(FlowEdges{field.images, max_value, edges.results, nullptr, nullptr}, true);
    check_values("edge", edges.results, expected(field.values, size, max_value), tolerance);
  }
  constexpr double kUnclamped = 1e3;  // differences across the clamp's kink are no gradient
  Values weight;
  const auto grad_edges = weights<T>(size.pixels(), weight);
  const Results<T> grad_flow(size, 2 * size.pixels());
  launch(FlowEdges{field.images, kUnclamped, nullptr, grad_edges.get(), grad_flow.results}, false);
  if (size.pixels() == 1) {
    check_values("gradient", grad_flow.results, {0, 0}, 0);
    return;
  }
  const Formula formula = [&](const Values& values) { return expected(values, size, kUnclamped); };
  check_values("gradient", grad_flow.results, numeric_gradient(formula, field.values, weight), 2 * tolerance);
}

// launch(args, forward) starts the launcher under test; `few` is for the sanitizers, where a CUDA thread costs most.
template <typename Launch>
void run_all(bool few, const Launch& launch) {
  for (const Size& size : sizes(few)) {
    for_dtypes(few, [&]<typename T>(Dtype dtype, double tolerance) { run_case<T>(dtype, size, tolerance, launch); });
  }
}

}  // namespace flow_edges_cases
