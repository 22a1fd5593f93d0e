// What the tests of the stencils on flow fields share: fields whose memory is allocated to the byte, and gradients by
// differences of a formula in double.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "core/dtype.h"
#include "flow/flow_images.h"

namespace flow_image_cases {

using motionops::Dtype;
using motionops::FlowImages;

// [B, T, 2, H, W] in double, contiguous.
using Values = std::vector<double>;
// From a field to an operator's result.
using Formula = std::function<Values(const Values&)>;

struct Size {
  int64_t batch, frames, height, width;
  int64_t row_gap;  // unused elements between two rows, and so on
  int64_t channel_gap = 0, frame_gap = 0, batch_gap = 0;
  int64_t offset = 0, result_offset = 0, gradient_offset = 0;  // elements before the field, the result, its gradient

  int64_t pixels() const { return batch * frames * height * width; }
};

// A field in memory with gaps between its rows and so on, none behind the last, and its values in double.
template <typename T>
struct Field {
  std::unique_ptr<T[]> memory;
  FlowImages images;
  Values values;

  Field(Dtype dtype, const Size& size) {
    std::mt19937 generator(7);
    std::normal_distribution<double> normal(0, 2);
    const int64_t row = size.width + size.row_gap, plane = size.height * row + size.channel_gap;
    const int64_t frame = 2 * plane + size.frame_gap, clip = size.frames * frame + size.batch_gap;
    images = {dtype, nullptr, size.batch, size.frames, size.height, size.width, clip, frame, plane, row};
    const int64_t behind = size.batch_gap + size.frame_gap + size.channel_gap + size.row_gap;
    memory.reset(new T[size.offset + size.batch * clip - behind]);
    T* field = memory.get() + size.offset;
    images.flow = field;
    values.reserve(2 * size.pixels());
    for (int64_t y = 0; y < size.batch * size.frames * 2 * size.height; ++y) {
      const int64_t channel = y / size.height, n = channel / 2;
      T* start = field + n / size.frames * clip + n % size.frames * frame + channel % 2 * plane + y % size.height * row;
      for (int64_t x = 0; x < size.width; ++x) {
        start[x] = motionops::narrow<T>(static_cast<motionops::Wide<T>>(normal(generator)));
        values.push_back(motionops::widen(start[x]));
      }
    }
  }
};

// `count` values of T from `weights` on, those of a result, and what they are in double.
template <typename T>
struct Weights {
  std::unique_ptr<T[]> memory;
  T* weights;
  Values exact;

  Weights(const Size& size, int64_t count)
      : memory(new T[size.gradient_offset + count]), weights(memory.get() + size.gradient_offset) {
    std::mt19937 generator(8);
    std::uniform_real_distribution<double> uniform(-1, 1);
    for (int64_t i = 0; i < count; ++i) {
      weights[i] = motionops::narrow<T>(static_cast<motionops::Wide<T>>(uniform(generator)));
      exact.push_back(motionops::widen(weights[i]));
    }
  }
};

inline double weighted_sum(const Values& result, const Values& weight) {
  double sum = 0;
  for (size_t i = 0; i < result.size(); ++i) sum += weight[i] * result[i];
  return sum;
}

// The gradient of Σ weight · formula(field), one value after the other.
inline Values numeric_gradient(const Formula& formula, Values field, const Values& weight) {
  constexpr double kStep = 1e-5;
  Values gradient;
  for (double& value : field) {
    const double exact = value;
    value = exact + kStep;
    const double above = weighted_sum(formula(field), weight);
    value = exact - kStep;
    const double below = weighted_sum(formula(field), weight);
    value = exact;
    gradient.push_back((above - below) / (2 * kStep));
  }
  return gradient;
}

// The same for a formula of one video, of all `videos` in `field`: differences of all at once would cost their square.
inline Values numeric_gradient_by_video(const Formula& formula, const Values& field, const Values& weight,
                                        int64_t videos) {
  const auto part = [videos](const Values& all, int64_t video) {
    const auto size = static_cast<int64_t>(all.size()) / videos;
    return Values(all.begin() + video * size, all.begin() + (video + 1) * size);
  };
  Values gradient;
  for (int64_t video = 0; video < videos; ++video) {
    const Values one = numeric_gradient(formula, part(field, video), part(weight, video));
    gradient.insert(gradient.end(), one.begin(), one.end());
  }
  return gradient;
}

template <typename T>
void check_values(const char* what, const T* got, const Values& expected, double tolerance) {
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = motionops::widen(got[i]);
    CHECK(close_to(value, expected[i], tolerance * (1 + std::fabs(expected[i]))), "%s %d: %g instead of %g", what,
          static_cast<int>(i), value, expected[i]);
  }
}

// Memory for `count` results, to the byte; they begin at `results`.
template <typename T>
struct Results {
  std::unique_ptr<T[]> memory;
  T* results;

  Results(const Size& size, int64_t count)
      : memory(new T[size.result_offset + count]), results(memory.get() + size.result_offset) {}
};

// call.template operator()<T>(dtype, tolerance) for the types; `few` takes two of them.
template <typename Call>
void for_dtypes(bool few, const Call& call) {
  call.template operator()<float>(Dtype::kFloat32, 1e-4);
  call.template operator()<motionops::BFloat16>(Dtype::kBFloat16, 8e-3);
  if (few) return;
  call.template operator()<double>(Dtype::kFloat64, 1e-6);
  call.template operator()<motionops::Float16>(Dtype::kFloat16, 1e-3);
}

// Small images: a pixel, rows and columns, odd tails beside the vectors, the seam of two strips, every width that CUDA
// loads at once, and each of the reasons that forbid them by itself: a stride, the field's address, the result's, its
// gradient's; more images than a block of CUDA takes, rows wider than one.
inline std::vector<Size> sizes(bool few) {
  std::vector<Size> sizes{{1, 1, 5, 9, 1},
                          {1, 1, 2, 8, 0},
                          {1, 1, 4, 8, 1},
                          {1, 1, 2, 8, 0, 2},
                          {1, 2, 2, 8, 0, 0, 2},
                          {2, 1, 2, 8, 0, 0, 0, 1},
                          {1, 1, 2, 8, 0, 0, 0, 0, 1},
                          {1, 1, 2, 8, 0, 0, 0, 0, 0, 1},
                          {1, 1, 2, 8, 0, 0, 0, 0, 0, 0, 1},
                          {33, 1, 2, 16, 0}};
  if (!few) {
    sizes.insert(sizes.end(), {{1, 1, 1, 1, 0},
                               {1, 2, 1, 11, 3},
                               {2, 1, 11, 1, 2},
                               {1, 1, 2, 2, 0},
                               {2, 2, 4, 12, 0},
                               {1, 1, 5, 37, 1},
                               {1, 1, 70, 5, 0},
                               {1, 1, 18, 8, 4},
                               {66, 1, 2, 16, 8},
                               {1, 1, 18, 16, 8},
                               {7, 1, 18, 11, 1},
                               {1, 1, 4, 140, 1},
                               {1, 2, 3, 131, 0}});
  }
  return sizes;
}

}  // namespace flow_image_cases
