// Parallel over clips and frames. A frame is cropped into a scratch of 3 planes, which stays in the second-level
// cache while it is adjusted, and is written once. A thread that owns several frames of a clip crops each of them once,
// with the difference too: it keeps the one before.
#include "views/augment_clips.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "core/simd_target.h"

namespace motionops {
namespace {

constexpr int64_t kBlock = 1024;            // pixels: 12 kB of float32, which the first-level cache holds
constexpr int64_t kPixelsPerTask = 8192;    // less does not pay for waking a thread
constexpr double kNegligibleWeight = 1e-9;  // of a blur's taps, which are left out: 1 / 255 is 4e-3
enum Adjustment : int64_t { kBrightness, kContrast, kSaturation, kHue };

// Where the output pixels of one axis lie between the source's.
template <typename Real>
struct Taps {
  std::vector<int32_t> low, high;
  std::vector<Real> weight;  // of high
  int64_t first = 0, last = 0;

  void place(Real start, Real end, int64_t length, int64_t size) {
    low.resize(size), high.resize(size), weight.resize(size);
    first = length - 1, last = 0;
    const Real most = static_cast<Real>(length - 1);
    for (int64_t i = 0; i < size; ++i) {
      const Real fraction = start + (end - start) * ((static_cast<Real>(i) + Real(0.5)) / static_cast<Real>(size));
      Real position = fraction * static_cast<Real>(length) - Real(0.5);
      position = position > 0 ? position : Real{0};  // NaN too
      position = position < most ? position : most;
      low[i] = static_cast<int32_t>(position);
      high[i] = static_cast<int32_t>(std::min<int64_t>(low[i] + 1, length - 1));
      weight[i] = position - static_cast<Real>(low[i]);
      first = std::min<int64_t>(first, low[i]);
      last = std::max<int64_t>(last, high[i]);
    }
  }
};

// What is done to the frames of one clip.
template <typename Real>
struct Look {
  int64_t steps = 0;
  int64_t step[4];
  Real factor[4];
  bool grayscale = false;
  int64_t radius = -1;        // -1: no blur
  std::vector<Real> weights;  // [2 radius + 1]
  Real mean[3], scale[3];
};

template <typename Real>
struct Clip {
  int64_t index = -1;
  AugmentVideo video;
  Taps<Real> rows, columns;
  Look<Real> look;
};

template <typename Real>
void set_blur(Look<Real>& look, Real sigma, int64_t kernel) {
  look.radius = -1;
  if (!(sigma > 0)) return;
  const auto tap = [&](int64_t offset) { return std::exp(-0.5 * std::pow(static_cast<double>(offset) / sigma, 2)); };
  look.radius = kernel / 2;
  while (look.radius > 0 && tap(look.radius) < kNegligibleWeight) --look.radius;
  double total = 0;
  for (int64_t k = -look.radius; k <= look.radius; ++k) total += tap(k);
  look.weights.clear();
  for (int64_t k = -look.radius; k <= look.radius; ++k) look.weights.push_back(static_cast<Real>(tap(k) / total));
}

template <typename Real>
void set_look(const AugmentClips& args, int64_t b, Look<Real>& look) {
  look.steps = 0;
  look.grayscale = false;
  look.radius = -1;
  for (int c = 0; c < 3; ++c) {
    look.mean[c] = static_cast<Real>(args.mean[c]);
    look.scale[c] = static_cast<Real>(args.scale[c]);
  }
  if (args.jitter == nullptr) return;
  const Real* jitter = static_cast<const Real*>(args.jitter) + 4 * b;
  for (int k = 0; k < 4; ++k) {
    const int64_t step = args.order[4 * b + k];
    if (step < kBrightness || step > kHue) continue;
    if (jitter[step] == (step == kHue ? Real{0} : Real{1})) continue;
    look.step[look.steps] = step;
    look.factor[look.steps++] = jitter[step];
  }
  look.grayscale = args.grayscale[b];
  set_blur(look, static_cast<const Real*>(args.blur_sigma)[b], args.blur_kernel);
}

template <typename Real>
void set_clip(const AugmentClips& args, int64_t b, Clip<Real>& clip) {
  clip.index = b;
  if (args.videos != nullptr) {
    clip.video = args.videos[b];
  } else {
    clip.video = args.common;
    clip.video.frames += b * args.stride_b;
  }
  const Real* extent = static_cast<const Real*>(args.extents) + 6 * b;
  clip.rows.place(extent[2], extent[3], clip.video.height, args.height);
  clip.columns.place(extent[4], extent[5], clip.video.width, args.width);
  set_look(args, b, clip.look);
}

// What a thread works in.
template <typename Real>
struct Scratch {
  Scratch(const AugmentClips& args, int64_t widest)
      : frame(3 * args.height * args.width),
        before(args.difference ? frame.size() : 0),
        change(args.difference ? frame.size() : 0),
        blurred(args.blur_sigma == nullptr ? 0 : args.height * args.width),
        line(std::max(3 * widest, args.width + args.blur_kernel)) {}
  std::vector<Real> frame, before, change;  // [3][height][width]
  std::vector<Real> blurred;                // [height][width]
  std::vector<Real> line;                   // of the source, interleaved; or padded, of the view
};

#define MOTIONOPS_SIMD_FILE "views/augment_clips_cpu.inl"
#include "core/simd_targets.inl"

template <typename T>
void run(const AugmentClips& args, const Parallel& parallel) {
  using Real = Wide<T>;
  int64_t widest = args.videos == nullptr ? args.common.width : 0;
  for (int64_t b = 0; args.videos != nullptr && b < args.batch; ++b) widest = std::max(widest, args.videos[b].width);
  const int64_t grain = kPixelsPerTask / std::max<int64_t>(1, args.height * args.width);
  parallel.run(0, args.batch * args.frames, grain, [&](int64_t begin, int64_t end) {
    Scratch<Real> scratch(args, widest);
    Clip<Real> clip;
    while (begin < end) {
      const int64_t b = begin / args.frames, first = begin % args.frames;
      const int64_t count = std::min(args.frames - first, end - begin);
      set_clip(args, b, clip);
      MOTIONOPS_SIMD_CALL(frames<T, Real>(args, clip, scratch, first, first + count));
      begin += count;
    }
  });
}

}  // namespace

void augment_clips_forward_cpu(const AugmentClips& args, const Parallel& parallel) {
  if (args.batch == 0 || args.frames == 0) return;
  for_dtype(args.dtype, [&]<typename T>() { run<T>(args, parallel); });
}

}  // namespace motionops
