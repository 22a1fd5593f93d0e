// Parallel over clips and over blocks of a frame. A block is carried through all frames before the next one begins, so
// that what the frame after needs again is still in the first-level cache: memory is read once.
#include "flow/frame_difference.h"

#include <algorithm>
#include <array>
#include <type_traits>

#include "core/simd_target.h"

namespace motionops {
namespace {

constexpr int64_t kBlock = 2048;             // elements of a frame: 8 kB of float32, a few fit into the cache
constexpr int64_t kElementsPerTask = 32768;  // less does not pay for waking a thread

#define MOTIONOPS_SIMD_FILE "flow/frame_difference_cpu.inl"
#include "core/simd_targets.inl"

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
        MOTIONOPS_SIMD_CALL(forward_block<T>(in, out, args.frames, count, args.wrap));
      } else {
        MOTIONOPS_SIMD_CALL(backward_block<T>(in, out, args.frames, count, args.wrap));
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
