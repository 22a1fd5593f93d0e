// Parallel over clips and over blocks of a frame. A block is carried through all frames before the next one begins, so
// that what the frame after needs again is still in the first-level cache: memory is read once.
#include "flow/frame_difference.h"

#include <algorithm>
#include <array>

namespace motionops {
namespace {

constexpr int64_t kBlock = 2048;             // elements of a frame: 8 kB of float32, a few fit into the cache
constexpr int64_t kElementsPerTask = 32768;  // less does not pay for waking a thread

// One block of one clip through all frames. in(t) and out(t) point at it in frame t.
template <typename T, typename In, typename Out>
void forward_block(const In& in, const Out& out, int64_t frames, int64_t count, bool wrap) {
  const auto difference = [count](const T* frame, const T* before, T* __restrict result) {
    for (int64_t i = 0; i < count; ++i) {
      result[i] = narrow<T>((widen(frame[i]) - widen(before[i]) + 1) / 2);
    }
  };
  if (wrap || frames == 1) {
    difference(in(0), in(frames - 1), out(0));
  } else {
    difference(in(1), in(0), out(0));
  }
  for (int64_t t = 1; t < frames; ++t) difference(in(t), in(t - 1), out(t));
}

template <typename T, typename In, typename Out>
void backward_block(const In& in, const Out& out, int64_t frames, int64_t count, bool wrap) {
  if (frames == 1) {
    std::fill_n(out(0), count, T{});  // the difference of a frame with itself is constant
    return;
  }
  using Values = std::array<Wide<T>, kBlock>;
  // The gradient of the difference x_t - x_{t-1}, t = 0 .. T; x_{-1} and x_T are the frames that wrap, or nothing.
  const auto load = [&](int64_t t, Values& values) {
    if (wrap || (t > 0 && t < frames)) {
      const T* from = in(t == frames ? 0 : t);
      for (int64_t i = 0; i < count; ++i) values[i] = widen(from[i]);
      if (!wrap && t == 1) {
        const T* repeated = in(0);
        for (int64_t i = 0; i < count; ++i) values[i] = widen(repeated[i]) + values[i];
      }
    } else {
      std::fill_n(values.begin(), count, Wide<T>{0});
    }
  };
  Values current, next;
  load(0, current);
  for (int64_t t = 0; t < frames; ++t) {
    load(t + 1, next);
    T* __restrict result = out(t);
    for (int64_t i = 0; i < count; ++i) {
      result[i] = narrow<T>((current[i] - next[i]) / 2);
      current[i] = next[i];
    }
  }
}

template <typename T, bool kForward>
void run(const FrameDifference& args, const Parallel& parallel) {
  const int64_t blocks = (args.inner + kBlock - 1) / kBlock;
  const int64_t elements_per_block = std::max<int64_t>(1, args.frames * std::min(args.inner, kBlock));
  if (args.frames == 0) return;
  parallel.run(0, args.outer * blocks, kElementsPerTask / elements_per_block, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t outer = item / blocks, start = item % blocks * kBlock;
      const int64_t count = std::min(kBlock, args.inner - start);
      const auto in = [&](int64_t t) {
        return static_cast<const T*>(args.input) + outer * args.outer_stride + t * args.frame_stride + start;
      };
      const auto out = [&](int64_t t) {
        return static_cast<T*>(args.output) + (outer * args.frames + t) * args.inner + start;
      };
      if constexpr (kForward) {
        forward_block<T>(in, out, args.frames, count, args.wrap);
      } else {
        backward_block<T>(in, out, args.frames, count, args.wrap);
      }
    }
  });
}

}  // namespace

void frame_difference_forward_cpu(const FrameDifference& args, const Parallel& parallel) {
  for_dtype(args.dtype, [&]<typename T>() { run<T, true>(args, parallel); });
}

void frame_difference_backward_cpu(const FrameDifference& args, const Parallel& parallel) {
  for_dtype(args.dtype, [&]<typename T>() { run<T, false>(args, parallel); });
}

}  // namespace motionops
