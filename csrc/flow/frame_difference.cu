// A thread owns a column: 16 bytes of a frame (or one element where alignment does not allow more), in all frames of
// one clip. It carries the last frame in registers, so every byte is read once and written once; what wraps is closed
// at the end, when the last frame is at hand. Neighbouring threads own neighbouring bytes. Few threads must keep memory
// busy, so each has the loads of four frames on their way before it uses the first.
#include "core/device_types.h"
#include "core/launch.h"
#include "flow/frame_difference.h"

namespace motionops {
namespace {

constexpr int kThreads = 256;

// Pointers to one column in frame t.
template <typename T, int kWidth>
struct Column {
  const T* input;
  T* output;
  int64_t frame_stride, inner;

  __device__ Pack<T, kWidth> load(int64_t t) const { return load_pack<T, kWidth>(input + t * frame_stride); }
  __device__ void store(int64_t t, const Pack<T, kWidth>& values) const {
    *reinterpret_cast<Pack<T, kWidth>*>(output + t * inner) = values;
  }

  // use(t, frame) for frames 1 to `frames` - 1.
  template <typename Use>
  __device__ void each_further(int64_t frames, const Use& use) const {
    constexpr int kInFlight = 4;
    for (int64_t t = 1; t < frames; t += kInFlight) {
      Pack<T, kWidth> loaded[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) loaded[i] = load(min(t + i, frames - 1));
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        if (t + i < frames) use(t + i, loaded[i]);
      }
    }
  }
};

// (a - b + 1) / 2
template <typename T, int kWidth>
__device__ Pack<T, kWidth> difference(const Pack<T, kWidth>& a, const Pack<T, kWidth>& b) {
  Pack<T, kWidth> result;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    result.values[i] = device_narrow<T>((device_widen(a.values[i]) - device_widen(b.values[i]) + 1) / 2);
  }
  return result;
}

template <typename T, int kWidth>
__device__ void forward_column(const Column<T, kWidth>& column, int64_t frames, bool wrap) {
  const auto first = column.load(0);
  auto before = first;
  column.each_further(frames, [&](int64_t t, const Pack<T, kWidth>& frame) {
    const auto change = difference(frame, before);
    column.store(t, change);
    if (t == 1 && !wrap) column.store(0, change);
    before = frame;
  });
  if (wrap || frames == 1) column.store(0, difference(first, before));
}

// The gradient of x_t - x_{t-1} in the type it is computed in.
template <typename T, int kWidth>
struct Gradient {
  DeviceWide<T> values[kWidth];
};

template <typename T, int kWidth>
__device__ Gradient<T, kWidth> widen_all(const Pack<T, kWidth>& pack) {
  Gradient<T, kWidth> result;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) result.values[i] = device_widen(pack.values[i]);
  return result;
}

// (a - b) / 2
template <typename T, int kWidth>
__device__ Pack<T, kWidth> half_difference(const Gradient<T, kWidth>& a, const Gradient<T, kWidth>& b) {
  Pack<T, kWidth> result;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) result.values[i] = device_narrow<T>((a.values[i] - b.values[i]) / 2);
  return result;
}

template <typename T, int kWidth>
__device__ void backward_column(const Column<T, kWidth>& column, int64_t frames, bool wrap) {
  const auto first = widen_all(column.load(0));
  auto current = first;  // wrap: g_0; repeat: 0, as g_0 belongs to the difference of the first two frames
  if (!wrap) current = {};
  column.each_further(frames, [&](int64_t t, const Pack<T, kWidth>& frame) {
    auto next = widen_all(frame);
    if (t == 1 && !wrap) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) next.values[i] = first.values[i] + next.values[i];
    }
    column.store(t - 1, half_difference<T, kWidth>(current, next));
    current = next;
  });
  column.store(frames - 1, half_difference<T, kWidth>(current, wrap ? first : Gradient<T, kWidth>{}));
}

template <typename T, int kWidth, bool kForward>
__global__ void __launch_bounds__(kThreads) frame_difference_kernel(FrameDifference args) {
  const int64_t columns_per_frame = args.inner / kWidth;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= args.outer * columns_per_frame) return;
  const int64_t outer = index / columns_per_frame, start = index % columns_per_frame * kWidth;
  const Column<T, kWidth> column{static_cast<const T*>(args.input) + outer * args.outer_stride + start,
                                 static_cast<T*>(args.output) + outer * args.frames * args.inner + start,
                                 args.frame_stride, args.inner};
  if constexpr (kForward) {
    forward_column(column, args.frames, args.wrap);
  } else {
    backward_column(column, args.frames, args.wrap);
  }
}

template <typename T, int kWidth, bool kForward>
cudaError_t start(const FrameDifference& args, cudaStream_t stream) {
  const int64_t columns = args.outer * (args.inner / kWidth);
  const int64_t blocks = (columns + kThreads - 1) / kThreads;
  return launch(&frame_difference_kernel<T, kWidth, kForward>, grid_of(blocks), dim3(kThreads), 0, stream, args);
}

template <typename T, bool kForward>
cudaError_t choose_width(const FrameDifference& args, cudaStream_t stream) {
  if (args.outer == 0 || args.frames == 0 || args.inner == 0) return cudaSuccess;
  constexpr int kWidth = 16 / sizeof(T);
  const auto fits = [](int64_t elements) { return elements % kWidth == 0; };
  const auto aligned = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; };
  const bool wide = fits(args.inner) && fits(args.frame_stride) && fits(args.outer_stride) && aligned(args.input) &&
                    aligned(args.output);
  return wide ? start<T, kWidth, kForward>(args, stream) : start<T, 1, kForward>(args, stream);
}

template <bool kForward>
cudaError_t run(const FrameDifference& args, cudaStream_t stream) {
  return for_device_dtype(args.dtype, [&]<typename T>() { return choose_width<T, kForward>(args, stream); });
}

}  // namespace

cudaError_t frame_difference_forward_cuda(const FrameDifference& args, cudaStream_t stream) {
  return run<true>(args, stream);
}

cudaError_t frame_difference_backward_cuda(const FrameDifference& args, cudaStream_t stream) {
  return run<false>(args, stream);
}

}  // namespace motionops
