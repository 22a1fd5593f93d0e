// Cases of tvl1_flow whose result is known: a still pair does not move, a moved pattern moves by as much, all sizes stay
// inside their memory, and what does not change along an axis is the definition along the other one, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "check.h"
#include "core/dtype.h"
#include "flow/tvl1_flow.h"

namespace tvl1_flow_cases {

using motionops::Dtype;
using motionops::Tvl1Flow;

// Moved to the right by `shift` in the following image.
template <typename T, typename Launch>
void run_case(Dtype dtype, Tvl1Flow args, double shift, const Launch& launch) {
  const int64_t pixels = args.height * args.width, count = args.pairs * pixels;
  // allocated to the byte, so that reading or writing past it is seen
  std::unique_ptr<T[]> previous(new T[count]), following(new T[count]), flow(new T[2 * count]);
  for (int64_t i = 0; i < count; ++i) {
    const double x = static_cast<double>(i % args.width), y = static_cast<double>(i % pixels / args.width);
    const auto pattern = [&](double at) { return 128 + 60 * std::sin(0.5 * at) + 60 * std::cos(0.4 * y); };
    previous[i] = static_cast<T>(pattern(x));
    following[i] = static_cast<T>(pattern(x - shift));
  }
  args.dtype = dtype;
  args.previous = previous.get();
  args.following = following.get();
  args.flow = flow.get();
  launch(args);
  const int64_t edge = 6;
  for (int64_t pair = 0; pair < args.pairs; ++pair) {
    double sum_u = 0, inner = 0;
    for (int64_t i = 0; i < pixels; ++i) {
      const double u = flow[2 * pair * pixels + i], v = flow[(2 * pair + 1) * pixels + i];
      CHECK(std::isfinite(u) && std::isfinite(v), "pixel %d: %g, %g", static_cast<int>(i), u, v);
      if (shift == 0) CHECK(std::fabs(u) + std::fabs(v) < 1e-3, "pixel %d: %g, %g", static_cast<int>(i), u, v);
      const int64_t x = i % args.width, y = i / args.width;
      if (x < edge || x >= args.width - edge || y < edge || y >= args.height - edge) continue;
      sum_u += u, inner += 1;
    }
    if (inner > 0 && args.iterations >= 10) CHECK(close_to(sum_u / inner, shift, 0.15), "u is %g", sum_u / inner);
  }
}

// The flow along the one axis that a pair changes along, after the iterations of a single warp: it begins at 0, so nothing
// is interpolated, and the dual variable has one component.
inline std::vector<double> flow_along_axis(const std::vector<double>& previous, const std::vector<double>& following,
                                           const Tvl1Flow& args) {
  const size_t length = previous.size();
  const double limit = args.smoothness * args.tightness, k = args.tau / args.tightness;
  std::vector<double> flow(length), dual(length);
  for (int64_t iteration = 0; iteration < args.iterations; ++iteration) {
    for (size_t x = 0; x < length; ++x) {
      const double gradient = (following[std::min(x + 1, length - 1)] - following[x > 0 ? x - 1 : 0]) / 2;
      const double rho = following[x] - previous[x] + gradient * flow[x], square = gradient * gradient;
      const double step = square > motionops::tvl1::kFlatGradient ? std::clamp(-rho / square, -limit, limit) : 0;
      flow[x] += step * gradient + args.tightness * (dual[x] - (x > 0 ? dual[x - 1] : 0));
    }
    for (size_t x = 0; x + 1 < length; ++x) {
      const double slope = flow[x + 1] - flow[x];
      dual[x] = (dual[x] + k * slope) / (1 + k * std::fabs(slope));
    }
  }
  return flow;
}

template <typename T, typename Launch>
void run_one_axis(Dtype dtype, Tvl1Flow args, bool across, double tolerance, const Launch& launch) {
  const int64_t pixels = args.height * args.width, length = across ? args.width : args.height;
  std::vector<double> lines[2];
  for (int64_t i = 0; i < length; ++i) {
    for (const int moved : {0, 1}) {
      const double at = static_cast<double>(i) - 1.5 * moved;
      lines[moved].push_back(static_cast<T>(128 + 60 * std::sin(0.5 * at) + 60 * std::cos(0.17 * at)));
    }
  }
  const auto place = [&](int64_t pixel) { return across ? pixel % args.width : pixel / args.width; };
  const std::unique_ptr<T[]> previous(new T[pixels]), following(new T[pixels]), flow(new T[2 * pixels]);
  for (int64_t i = 0; i < pixels; ++i) {
    previous[i] = static_cast<T>(lines[0][place(i)]);
    following[i] = static_cast<T>(lines[1][place(i)]);
  }
  args.dtype = dtype;
  args.previous = previous.get();
  args.following = following.get();
  args.flow = flow.get();
  launch(args);
  const std::vector<double> wanted = flow_along_axis(lines[0], lines[1], args);
  for (int64_t i = 0; i < pixels; ++i) {
    const double along = flow[across ? i : pixels + i], other = flow[across ? pixels + i : i];
    CHECK(close_to(along, wanted[place(i)], tolerance) && other == 0, "pixel %d: %g, %g instead of %g, 0",
          static_cast<int>(i), along, other, wanted[place(i)]);
  }
}

// launch(args) starts the launcher under test; `few` is for the sanitizers, where a CUDA thread costs most.
template <typename Launch>
void run_all(bool few, const Launch& launch) {
  Tvl1Flow args{};
  args.tau = 0.25, args.smoothness = 0.15, args.tightness = 0.3;
  args.scale_step = 0.8, args.median = 5, args.scales = 2, args.warps = 1, args.iterations = 2;
  struct Size {
    int64_t pairs, height, width;
  };
  for (const Size& size : {Size{1, 1, 1}, Size{2, 4, 19}, Size{1, 21, 20}}) {
    args.pairs = size.pairs, args.height = size.height, args.width = size.width;
    run_case<float>(Dtype::kFloat32, args, 0, launch);
    if (few) continue;
    for (args.median = 1; args.median <= 5; args.median += 2) {
      run_case<float>(Dtype::kFloat32, args, 1.5, launch);
      run_case<double>(Dtype::kFloat64, args, 1.5, launch);
    }
    args.median = 5;
  }
  // two regions of the GPU across and two down, and more iterations than it runs in one
  args.pairs = 1, args.height = 23, args.width = 55, args.iterations = 6;
  run_case<float>(Dtype::kFloat32, args, 0, launch);
  if (few) return;
  args.pairs = 2, args.height = 41, args.width = 67, args.warps = 3, args.iterations = 20;
  run_case<float>(Dtype::kFloat32, args, 1.5, launch);
  run_case<double>(Dtype::kFloat64, args, 1.5, launch);
  args.pairs = args.scales = args.warps = 1, args.height = 37, args.width = 43;
  for (const bool across : {true, false}) {
    run_one_axis<float>(Dtype::kFloat32, args, across, 1e-4, launch);
    run_one_axis<double>(Dtype::kFloat64, args, across, 1e-12, launch);
  }
}

}  // namespace tvl1_flow_cases
