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
  const Weights<T> grad_edges(size, size.pixels());
  const Results<T> grad_flow(size, 2 * size.pixels());
  launch(FlowEdges{field.images, kUnclamped, nullptr, grad_edges.weights, grad_flow.results}, false);
  if (size.pixels() == 1) {
    check_values("gradient", grad_flow.results, {0, 0}, 0);
    return;
  }
  const Size video{1, size.frames, size.height, size.width, 0};
  const Formula formula = [&](const Values& values) { return expected(values, video, kUnclamped); };
  check_values("gradient", grad_flow.results,
               numeric_gradient_by_video(formula, field.values, grad_edges.exact, size.batch), 2 * tolerance);
}

// The gradient at the middle of a still field of 5 × 5, where (u, v) is `middle`, of the edge left of
// it, which is 2 |u|.
template <typename Launch>
void check_middle(const float (&middle)[2], double max_value, const double (&gradient)[2], const Launch& launch) {
  constexpr int64_t kSide = 5, kPlane = kSide * kSide, kMiddle = kPlane / 2;
  const FlowImages images{Dtype::kFloat32, nullptr, 1, 1, kSide, kSide, 2 * kPlane, 2 * kPlane, kPlane, kSide};
  float flow[2 * kPlane] = {}, grad_edges[kPlane] = {}, grad_flow[2 * kPlane];
  for (const int64_t channel : {0, 1}) flow[channel * kPlane + kMiddle] = middle[channel];
  grad_edges[kMiddle - 1] = 1;
  FlowEdges args{images, max_value, nullptr, grad_edges, grad_flow};
  args.images.flow = flow;
  launch(args, false);
  for (const int64_t channel : {0, 1}) {
    const double got = grad_flow[channel * kPlane + kMiddle];
    CHECK(close_to(got, gradient[channel], 0), "channel %d of (%g, %g), clamped to %g: %g instead of %g",
          static_cast<int>(channel), middle[0], middle[1], max_value, got, gradient[channel]);
  }
}

// launch(args, forward) starts the launcher under test; `few` is for the sanitizers, where a CUDA thread costs most.
template <typename Launch>
void run_all(bool few, const Launch& launch) {
  check_middle({4, 0}, 8, {2, 0},
               launch);  // an edge that equals max_value is not clamped; powers of 2, exact everywhere
  check_middle({4, 0}, 7.99, {0, 0}, launch);
  check_middle({0, -0x1p-50f}, 8, {0, -2}, launch);
  check_middle({NAN, 1}, 8, {NAN, NAN}, launch);
  check_middle({1, NAN}, 8, {NAN, NAN}, launch);
  check_middle({INFINITY, 1}, 8, {NAN, NAN}, launch);
  for (const Size& size : sizes(few)) {
    for_dtypes(few, [&]<typename T>(Dtype dtype, double tolerance) { run_case<T>(dtype, size, tolerance, launch); });
  }
}

}  // namespace flow_edges_cases
