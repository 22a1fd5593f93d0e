// Parallel over pairs. What a pair needs at 224 x 224 stays in the second-level cache, and within a warp all iterations
// run in one sweep over the rows (see tvl1_flow_cpu.inl).
#include "flow/tvl1_flow.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/simd_target.h"

namespace motionops {
namespace {

using tvl1::kFlatGradient;
using tvl1::Level;

constexpr int64_t kVectorBytes = 64;  // of the median filter
constexpr int64_t kWidestMedian = 5;

// The planes of one scale. Of the dual variables (ux, uy that of u; vx, vy that of v) there is a row of zeros above the
// first and a column of zeros beside the last, which is also the one before the first of the row below.
template <typename Real>
struct Planes {
  int64_t height, width, pitch;
  Real *u, *v, *gx, *gy, *r, *inverse, *ux, *uy, *vx, *vy;
};

template <typename Real>
int64_t padded_stride(int64_t width) {
  constexpr int64_t kLanes = kVectorBytes / sizeof(Real);
  return (width + kLanes - 1) / kLanes * kLanes + kWidestMedian - 1;
}

// Catmull-Rom: the weights of the pixels at -1, 0, 1, 2.
template <typename Real>
inline void cubic_weights(Real t, Real* weights) {
  weights[0] = ((Real(-0.5) * t + 1) * t - Real(0.5)) * t;
  weights[1] = (Real(1.5) * t - Real(2.5)) * t * t + 1;
  weights[2] = ((Real(-1.5) * t + 2) * t + Real(0.5)) * t;
  weights[3] = (Real(0.5) * t - Real(0.5)) * t * t;
}

// GCC says that vectors of 64 bytes are passed differently by each target; here they are passed inside one function.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

#define MOTIONOPS_SIMD_FILE "flow/tvl1_flow_cpu.inl"
#include "core/simd_targets.inl"

// Bilinear, pixel centres at half-integers, edges clamped.
template <typename Real>
class Axis {
 public:
  Axis(int64_t from, int64_t to, double ratio) : low_(to), high_(to), weight_(to) {
    for (int64_t i = 0; i < to; ++i) {
      const double place = std::clamp((static_cast<double>(i) + 0.5) * ratio - 0.5, 0.0, static_cast<double>(from - 1));
      low_[i] = static_cast<int64_t>(place);
      high_[i] = std::min(low_[i] + 1, from - 1);
      weight_[i] = static_cast<Real>(place - static_cast<double>(low_[i]));
    }
  }
  template <typename Value>
  Real blend(int64_t i, const Value& value) const {
    const Real a = value(low_[i]);
    return a + weight_[i] * (value(high_[i]) - a);
  }

 private:
  std::vector<int64_t> low_, high_;
  std::vector<Real> weight_;
};

template <typename Real>
void resize(const Real* from, Level from_level, int64_t from_pitch, Real* to, Level to_level, int64_t to_pitch,
            double ratio_y, double ratio_x, Real factor) {
  const Axis<Real> rows(from_level.height, to_level.height, ratio_y),
      columns(from_level.width, to_level.width, ratio_x);
  for (int64_t y = 0; y < to_level.height; ++y) {
    for (int64_t x = 0; x < to_level.width; ++x) {
      to[y * to_pitch + x] = factor * columns.blend(x, [&](int64_t column) {
        return rows.blend(y, [&](int64_t row) { return from[row * from_pitch + column]; });
      });
    }
  }
}

// The image with its central differences: value, d/dx, d/dy, 0 for each pixel, so that a tap of the warp is one load.
template <typename Real>
void pack(const Real* image, Level level, Real* packed) {
  for (int64_t y = 0; y < level.height; ++y) {
    const Real* row = image + y * level.width;
    const Real* above = y > 0 ? row - level.width : row;
    const Real* below = y + 1 < level.height ? row + level.width : row;
    for (int64_t x = 0; x < level.width; ++x) {
      const int64_t left = x > 0 ? x - 1 : x, right = x + 1 < level.width ? x + 1 : x;
      Real* to = packed + (y * level.width + x) * 4;
      to[0] = row[x];
      to[1] = (row[right] - row[left]) / 2;
      to[2] = (below[x] - above[x]) / 2;
      to[3] = 0;
    }
  }
}

// The memory of one thread, and the work on one pair in it.
template <typename Real>
class Solver {
 public:
  explicit Solver(const Tvl1Flow& args) : args_(args), levels_(tvl1::pyramid(args)) {
    const Level full = levels_.front();
    plane_ = (full.height + 1) * (full.width + 1) + 1;
    planes_.resize(12 * plane_);
    packed_.resize(4 * full.pixels());
    padded_.resize((full.height + kWidestMedian - 1) * padded_stride<Real>(full.width));
    for (size_t i = 1; i < levels_.size(); ++i) {
      for (auto* images : {&firsts_, &seconds_}) images->emplace_back(levels_[i].pixels());
    }
  }

  void solve(const Real* first, const Real* second, Real* flow) {
    std::vector<const Real*> firsts{first}, seconds{second};
    for (size_t i = 1; i < levels_.size(); ++i) {
      shrink(firsts.back(), i, firsts_[i - 1].data());
      shrink(seconds.back(), i, seconds_[i - 1].data());
      firsts.push_back(firsts_[i - 1].data());
      seconds.push_back(seconds_[i - 1].data());
    }
    std::fill(planes_.begin(), planes_.end(), Real{0});
    bool other = false;  // which of the two places holds the flow
    for (size_t i = levels_.size(); i-- > 0;) {
      const Level level = levels_[i];
      const int64_t pitch = level.width + 1;
      if (i + 1 < levels_.size()) {
        const Level coarse = levels_[i + 1];
        for (int64_t axis = 0; axis < 2; ++axis) {
          resize(flow_plane(other, axis), coarse, coarse.width + 1, flow_plane(!other, axis), level, pitch,
                 static_cast<double>(coarse.height) / static_cast<double>(level.height),
                 static_cast<double>(coarse.width) / static_cast<double>(level.width),
                 static_cast<Real>(1 / args_.scale_step));
        }
        other = !other;
      }
      Real* const base = planes_.data() + 4 * plane_;
      std::fill_n(base + 4 * plane_, 4 * plane_, Real{0});
      const auto dual = [&](int64_t number) { return base + (4 + number) * plane_ + pitch + 1; };
      const Planes<Real> planes{level.height,
                                level.width,
                                pitch,
                                flow_plane(other, 0),
                                flow_plane(other, 1),
                                base,
                                base + plane_,
                                base + 2 * plane_,
                                base + 3 * plane_,
                                dual(0),
                                dual(1),
                                dual(2),
                                dual(3)};
      pack(seconds[i], level, packed_.data());
      MOTIONOPS_SIMD_CALL(solve_scale(planes, firsts[i], packed_.data(), padded_.data(), args_));
    }
    for (int64_t axis = 0; axis < 2; ++axis) {
      for (int64_t y = 0; y < args_.height; ++y) {
        std::copy_n(flow_plane(other, axis) + y * (args_.width + 1), args_.width,
                    flow + (axis * args_.height + y) * args_.width);
      }
    }
  }

 private:
  Real* flow_plane(bool other, int64_t axis) { return planes_.data() + ((other ? 2 : 0) + axis) * plane_; }

  void shrink(const Real* from, size_t i, Real* to) const {
    const double ratio = 1 / args_.scale_step;
    resize(from, levels_[i - 1], levels_[i - 1].width, to, levels_[i], levels_[i].width, ratio, ratio, Real{1});
  }

  Tvl1Flow args_;
  std::vector<Level> levels_;
  int64_t plane_ = 0;
  std::vector<Real> planes_, packed_, padded_;
  std::vector<std::vector<Real>> firsts_, seconds_;
};

template <typename Real>
void run(const Tvl1Flow& args, const Parallel& parallel) {
  const int64_t pixels = args.height * args.width;
  parallel.run(0, args.pairs, 1, [&](int64_t begin, int64_t end) {
    Solver<Real> solver(args);
    for (int64_t pair = begin; pair < end; ++pair) {
      solver.solve(static_cast<const Real*>(args.previous) + pair * pixels,
                   static_cast<const Real*>(args.following) + pair * pixels,
                   static_cast<Real*>(args.flow) + 2 * pair * pixels);
    }
  });
}

}  // namespace

void tvl1_flow_forward_cpu(const Tvl1Flow& args, const Parallel& parallel) {
  if (args.pairs * args.height * args.width == 0) return;
  if (args.dtype == Dtype::kFloat64) {
    run<double>(args, parallel);
  } else {
    run<float>(args, parallel);
  }
}

}  // namespace motionops
