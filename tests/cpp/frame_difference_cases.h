// frame_difference in double, and the cases that the CPU and the CUDA launchers are compared with it on.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "core/dtype.h"
#include "flow/frame_difference.h"

namespace frame_difference_cases {

using motionops::Dtype;
using motionops::FrameDifference;

inline double expected(const std::vector<double>& input, const FrameDifference& args, bool forward, int64_t outer,
                       int64_t t, int64_t i) {
  const auto at = [&](int64_t frame) { return input[outer * args.outer_stride + frame * args.frame_stride + i]; };
  const int64_t frames = args.frames;
  if (forward) {
    if (t == 0 && !args.wrap && frames > 1) t = 1;
    return (at(t) - at((t + frames - 1) % frames) + 1) / 2;
  }
  if (args.wrap) return (at(t) - at((t + 1) % frames)) / 2;
  // x_t is subtracted in difference t + 1 and added in difference t; difference 0 is difference 1 once more
  const auto weight = [&](int64_t difference) {
    if (difference == 0 || difference >= frames) return 0.0;
    return difference == 1 ? at(0) + at(1) : at(difference);
  };
  return (weight(t) - weight(t + 1)) / 2;
}

template <typename T, typename Launch>
void run_case(Dtype dtype, FrameDifference args, int64_t offset, int64_t result_offset, bool forward, double tolerance,
              const Launch& launch) {
  std::mt19937 generator(7);
  std::uniform_real_distribution<double> uniform(0, 1);
  // allocated to the byte, so that reading or writing past it is seen
  const int64_t read = (args.outer - 1) * args.outer_stride + (args.frames - 1) * args.frame_stride + args.inner;
  const int64_t written = args.outer * args.frames * args.inner;
  std::unique_ptr<T[]> input_memory(new T[offset + read]), output_memory(new T[result_offset + written]);
  T *input = input_memory.get() + offset, *output = output_memory.get() + result_offset;
  std::vector<double> values(read);
  for (int64_t i = 0; i < read; ++i) {
    input[i] = motionops::narrow<T>(static_cast<motionops::Wide<T>>(uniform(generator)));
    values[i] = motionops::widen(input[i]);
  }
  args.dtype = dtype;
  args.input = input;
  args.output = output;
  launch(args, forward);
  for (int64_t outer = 0; outer < args.outer; ++outer) {
    for (int64_t t = 0; t < args.frames; ++t) {
      for (int64_t i = 0; i < args.inner; ++i) {
        const double got = motionops::widen(output[(outer * args.frames + t) * args.inner + i]);
        const double wanted = expected(values, args, forward, outer, t, i);
        CHECK(close_to(got, wanted, tolerance), "clip %d, frame %d, element %d: %g instead of %g",
              static_cast<int>(outer), static_cast<int>(t), static_cast<int>(i), got, wanted);
      }
    }
  }
}

// launch(args, forward) starts the launcher under test; `few` is for the sanitizers, where a CUDA thread costs most.
template <typename Launch>
void run_all(bool few, const Launch& launch) {
  struct Size {
    int64_t outer, frames, inner, gap;
    int64_t outer_gap = 0, offset = 0, result_offset = 0;
  };
  // where 16 bytes can be loaded at once, and each of the reasons against it by itself
  std::vector<Size> sizes{{3, 2, 16, 0},    {2, 6, 37, 0},       {2, 8, 16, 1},
                          {2, 2, 16, 0, 1}, {2, 2, 16, 0, 0, 1}, {2, 2, 16, 0, 0, 0, 1}};
  if (!few) sizes.insert(sizes.end(), {{1, 1, 1, 0}, {2, 1, 16, 0}, {2, 3, 64, 64}, {1, 4, 5003, 1}, {2, 10, 2112, 0}});
  for (const Size& size : sizes) {
    for (const bool wrap : {true, false}) {
      for (const bool forward : {true, false}) {
        FrameDifference args{};
        args.outer = size.outer;
        args.frames = size.frames;
        args.inner = size.inner;
        args.frame_stride = size.inner + size.gap;
        args.outer_stride = size.frames * args.frame_stride + size.outer_gap;
        args.wrap = wrap;
        const auto run = [&]<typename T>(Dtype dtype, double tolerance) {
          run_case<T>(dtype, args, size.offset, size.result_offset, forward, tolerance, launch);
        };
        run.template operator()<motionops::BFloat16>(Dtype::kBFloat16, 5e-3);
        if (few) continue;
        run.template operator()<float>(Dtype::kFloat32, 1e-6);
        run.template operator()<double>(Dtype::kFloat64, 1e-15);
        run.template operator()<motionops::Float16>(Dtype::kFloat16, 6e-4);
      }
    }
  }
}

}  // namespace frame_difference_cases
