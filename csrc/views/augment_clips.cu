// A block makes a tile of 32 x 32 pixels of one frame: crop, difference and colours in registers, one write. Where the
// clip is blurred, the tile and its halo go to shared memory first, are blurred along the lines there and along the
// columns on the way out; a kernel too wide for that (more than kSharedBytes) goes through global memory instead, in two
// further launches. Contrast's mean comes from a launch before, one block a frame, which crops the clips that have
// contrast a first time; a block of another clip leaves at once.
// Bytes: the four taps of neighbouring pixels and the tiles beside it share cache lines, so the cut-out is read about
// once (twice with contrast), a blurred tile reads its halo again from the cache, and the output is written once.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/device_types.h"
#include "core/launch.h"
#include "core/warp.h"
#include "views/augment_clips.h"

namespace motionops {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 32;
constexpr size_t kSharedBytes = 96 * 1024;  // of a block: two of them fit on sm_80 and sm_90
constexpr int64_t kAlignment = 256;
enum Adjustment : int { kBrightness, kContrast, kSaturation, kHue };

template <typename Real>
struct Color {
  Real red, green, blue;
};

// The two source pixels of one output pixel along one axis.
template <typename Real>
struct Tap {
  int64_t low, high;
  Real weight;  // of high
};

template <typename Real>
__device__ __forceinline__ Tap<Real> tap_of(Real start, Real end, int64_t length, int64_t size, int64_t i) {
  const Real most = static_cast<Real>(length - 1);
  const Real fraction = start + (end - start) * ((static_cast<Real>(i) + Real(0.5)) / static_cast<Real>(size));
  Real position = fraction * static_cast<Real>(length) - Real(0.5);
  position = position > 0 ? position : Real{0};  // NaN too
  position = position < most ? position : most;
  const auto low = static_cast<int64_t>(position);
  return {low, low + 1 < length ? low + 1 : low, position - static_cast<Real>(low)};
}

template <typename Real>
__device__ __forceinline__ Real clamp01(Real value) {
  value = value < 0 ? Real{0} : value;
  return value > 1 ? Real{1} : value;
}

template <typename Real>
__device__ __forceinline__ Real gray_of(const Color<Real>& x) {
  return Real(0.2989) * x.red + Real(0.587) * x.green + Real(0.114) * x.blue;
}

template <typename Real>
__device__ __forceinline__ Color<Real> blend(const Color<Real>& x, Real factor, Real base) {
  const Real added = (1 - factor) * base;
  return {clamp01(factor * x.red + added), clamp01(factor * x.green + added), clamp01(factor * x.blue + added)};
}

// M - C · clamp(min(k, 4 - k), 0, 1), k = (n + h) mod 6: see colour.py. The angle is in [-4, 14).
template <typename Real>
__device__ __forceinline__ Real turned(Real angle, Real largest, Real chroma) {
  angle = angle < 0 ? angle + 6 : angle;
  angle = angle >= 6 ? angle - 6 : angle;
  angle = angle >= 6 ? angle - 6 : angle;
  const Real back = 4 - angle;
  return largest - chroma * clamp01(angle < back ? angle : back);
}

template <typename Real>
__device__ __forceinline__ Color<Real> turn_hue(const Color<Real>& x, Real shift) {
  Real largest = x.red > x.green ? x.red : x.green, least = x.red < x.green ? x.red : x.green;
  largest = largest > x.blue ? largest : x.blue;
  least = least < x.blue ? least : x.blue;
  const Real chroma = largest - least;
  const Real scale = 1 / (chroma > Real(1e-30) ? chroma : Real(1e-30));
  Real angle = largest == x.green ? (x.blue - x.red) * scale + 2 : (x.red - x.green) * scale + 4;
  angle = (largest == x.red ? (x.green - x.blue) * scale : angle) + 6 * shift;
  return {turned(angle + 5, largest, chroma), turned(angle + 3, largest, chroma), turned(angle + 1, largest, chroma)};
}

// One frame of one clip, and what is done to it; the same for all threads of a block.
template <typename Real>
struct Frame {
  AugmentVideo video;
  const uint8_t *now, *before;  // frame t and t - 1
  Real extent[4];               // y start, end, x start, end
  Real factor[4];
  int step[4];
  bool has_look, grayscale;
  Real sigma;

  __device__ Frame(const AugmentClips& args, int64_t b, int64_t t) : video(args.common) {
    if (args.videos != nullptr) {
      video = args.videos[b];
    } else {
      video.frames += b * args.stride_b;
    }
    now = video.frames + t * video.stride_t;
    before = video.frames + (t == 0 ? args.frames - 1 : t - 1) * video.stride_t;
    const Real* from = static_cast<const Real*>(args.extents) + 6 * b + 2;
#pragma unroll
    for (int i = 0; i < 4; ++i) extent[i] = from[i];
    has_look = args.jitter != nullptr;
    const Real* jitter = static_cast<const Real*>(args.jitter) + 4 * b;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      step[k] = -1;  // nothing
      factor[k] = 0;
      if (!has_look) continue;
      const int64_t wanted = args.order[4 * b + k];
      if (wanted < kBrightness || wanted > kHue) continue;
      factor[k] = jitter[wanted];
      if (factor[k] != (wanted == kHue ? Real{0} : Real{1})) step[k] = static_cast<int>(wanted);
    }
    grayscale = has_look && args.grayscale[b];
    sigma = has_look ? static_cast<const Real*>(args.blur_sigma)[b] : Real{0};
  }

  __device__ bool has_contrast() const {
    return step[0] == kContrast || step[1] == kContrast || step[2] == kContrast || step[3] == kContrast;
  }
  __device__ bool is_blurred() const { return sigma > 0; }

  __device__ __forceinline__ Color<Real> crop(const uint8_t* frame, const Tap<Real>& y, const Tap<Real>& x) const {
    const uint8_t* upper = frame + y.low * video.stride_y;
    const uint8_t* lower = frame + y.high * video.stride_y;
    const int64_t left = x.low * video.stride_x, right = x.high * video.stride_x;
    Real values[3];
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      const int64_t channel = c * video.stride_c;
      const Real a = upper[left + channel], b = upper[right + channel];
      const Real d = lower[left + channel], e = lower[right + channel];
      const Real top = a + (b - a) * x.weight, bottom = d + (e - d) * x.weight;
      values[c] = (top + (bottom - top) * y.weight) * (Real{1} / 255);
    }
    return {values[0], values[1], values[2]};
  }

  // The pixel as it is before the look.
  __device__ __forceinline__ Color<Real> pixel(const AugmentClips& args, int64_t row, int64_t column) const {
    const auto y = tap_of(extent[0], extent[1], video.height, args.size, row);
    const auto x = tap_of(extent[2], extent[3], video.width, args.size, column);
    Color<Real> value = crop(now, y, x);
    if (args.difference) {
      const Color<Real> last = crop(before, y, x);
      value = {(value.red - last.red + 1) / 2, (value.green - last.green + 1) / 2, (value.blue - last.blue + 1) / 2};
    }
    return value;
  }

  // Applies the look as far as contrast (kBeforeContrast) or all of it.
  template <bool kBeforeContrast>
  __device__ __forceinline__ Color<Real> look(Color<Real> value, Real mean) const {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (step[k] == kBrightness) {
        value = blend(value, factor[k], Real{0});
      } else if (step[k] == kContrast) {
        if constexpr (kBeforeContrast) return value;
        value = blend(value, factor[k], mean);
      } else if (step[k] == kSaturation) {
        value = blend(value, factor[k], gray_of(value));
      } else if (step[k] == kHue) {
        value = turn_hue(value, factor[k]);
      }
    }
    if (grayscale) {
      const Real gray = gray_of(value);
      value = {gray, gray, gray};
    }
    return value;
  }
};

template <typename T>
__device__ __forceinline__ T normalised(const AugmentClips& args, int64_t c, DeviceWide<T> value) {
  using Real = DeviceWide<T>;
  return device_narrow<T>((value - static_cast<Real>(args.mean[c])) * static_cast<Real>(args.scale[c]));
}

// What the launches hand to each other.
template <typename Real>
struct Workspace {
  Real* means;      // [B, T]
  Real* unblurred;  // [B, 3, T, S, S], of a kernel too wide for shared memory
  Real* lines;      // the same, blurred along the lines
};

__device__ __forceinline__ int64_t reflected(int64_t i, int64_t size) {
  i = i < 0 ? -i : i;
  return i >= size ? 2 * (size - 1) - i : i;
}

// The blur's weights [kernel], by the whole block; a barrier follows.
template <typename Real>
__device__ void make_weights(Real sigma, int64_t kernel, Real* weights) {
  const int64_t radius = kernel / 2;
  Real total = 0;
  for (int64_t k = 0; k < kernel; ++k) {
    const Real distance = static_cast<Real>(k - radius) / sigma;
    total += exp(Real(-0.5) * distance * distance);
  }
  for (int64_t k = threadIdx.x; k < kernel; k += kThreads) {
    const Real distance = static_cast<Real>(k - radius) / sigma;
    weights[k] = exp(Real(-0.5) * distance * distance) / total;
  }
  __syncthreads();
}

template <typename Real>
__global__ void __launch_bounds__(kThreads) augment_clips_mean_kernel(AugmentClips args, Real* means) {
  __shared__ Real scratch[kThreads / 32];
  const int64_t b = blockIdx.x / args.frames, t = blockIdx.x % args.frames;
  const Frame<Real> frame(args, b, t);
  if (!frame.has_contrast()) return;
  const int64_t pixels = args.size * args.size;
  Real total = 0;
  for (int64_t i = threadIdx.x; i < pixels; i += kThreads) {
    total += gray_of(frame.template look<true>(frame.pixel(args, i / args.size, i % args.size), Real{0}));
  }
  total = block_sum(total, scratch);
  if (threadIdx.x == 0) means[blockIdx.x] = total / static_cast<Real>(pixels);
}

// Sizes of a block's shared memory, in Real: the tile with its halo [3][32 + 2r][32 + 2r], its lines blurred
// [3][32 + 2r][32], the weights.
__host__ __device__ inline int64_t shared_values(int64_t kernel) {
  const int64_t side = kTile + kernel - 1;
  return 3 * side * (side + kTile) + kernel;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    augment_clips_forward_kernel(AugmentClips args, Workspace<DeviceWide<T>> workspace) {
  using Real = DeviceWide<T>;
  const int64_t size = args.size, across = (size + kTile - 1) / kTile;
  const int64_t tile = blockIdx.x % (across * across), item = blockIdx.x / (across * across);
  const int64_t b = item / args.frames, t = item % args.frames;
  const int64_t top = tile / across * kTile, left = tile % across * kTile;
  const Frame<Real> frame(args, b, t);
  const Real mean = frame.has_contrast() ? workspace.means[item] : Real{0};
  const int64_t plane = args.frames * size * size, start = b * 3 * plane + t * size * size;
  T* output = static_cast<T*>(args.output) + start;
  if (!frame.is_blurred() || workspace.unblurred != nullptr) {
    for (int i = threadIdx.x; i < kTile * kTile; i += kThreads) {
      const int64_t y = top + i / kTile, x = left + i % kTile;
      if (y >= size || x >= size) continue;
      const Color<Real> value = frame.template look<false>(frame.pixel(args, y, x), mean);
      const Real values[3] = {value.red, value.green, value.blue};
#pragma unroll
      for (int c = 0; c < 3; ++c) {
        const int64_t to = c * plane + y * size + x;
        if (frame.is_blurred()) {
          workspace.unblurred[start + to] = values[c];
        } else {
          output[to] = normalised<T>(args, c, values[c]);
        }
      }
    }
    return;
  }

  const int kernel = static_cast<int>(args.blur_kernel), radius = kernel / 2, side = kTile + 2 * radius;
  Real* halo = reinterpret_cast<Real*>(dynamic_shared_memory());  // [3][side][side]
  Real* lines = halo + 3 * side * side;                           // [3][side][kTile]
  Real* weights = lines + 3 * side * kTile;                       // [kernel]
  make_weights(frame.sigma, args.blur_kernel, weights);
  for (int i = threadIdx.x; i < side * side; i += kThreads) {
    // Pixels beyond the last one of the picture plus the radius serve none of the tile's; any pixel will do for them.
    const int64_t y = reflected(min(top + i / side - radius, size - 1 + radius), size);
    const int64_t x = reflected(min(left + i % side - radius, size - 1 + radius), size);
    const Color<Real> value = frame.template look<false>(frame.pixel(args, y, x), mean);
    halo[i] = value.red;
    halo[side * side + i] = value.green;
    halo[2 * side * side + i] = value.blue;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 3 * side * kTile; i += kThreads) {
    const Real* from = halo + i / kTile * side + i % kTile;
    Real sum = 0;
    for (int k = 0; k < kernel; ++k) sum += weights[k] * from[k];
    lines[i] = sum;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 3 * kTile * kTile; i += kThreads) {
    const int c = i / (kTile * kTile), row = i / kTile % kTile, column = i % kTile;
    const int64_t y = top + row, x = left + column;
    if (y >= size || x >= size) continue;
    const Real* from = lines + (c * side + row) * kTile + column;
    Real sum = 0;
    for (int k = 0; k < kernel; ++k) sum += weights[k] * from[k * kTile];
    output[c * plane + y * size + x] = normalised<T>(args, c, sum);
  }
}

// Blurs planes of blurred clips along one axis through global memory: a block makes one line of one plane; kColumns
// is the second pass, which normalises.
template <typename T, bool kColumns>
__global__ void __launch_bounds__(kThreads)
    augment_clips_blur_kernel(AugmentClips args, Workspace<DeviceWide<T>> workspace) {
  using Real = DeviceWide<T>;
  const int64_t size = args.size, y = blockIdx.x % size, plane = blockIdx.x / size;  // plane of [B, 3, T]
  const int64_t b = plane / (3 * args.frames), c = plane / args.frames % 3;
  const Real sigma = static_cast<const Real*>(args.blur_sigma)[b];
  if (!(sigma > 0)) return;
  Real* weights = reinterpret_cast<Real*>(dynamic_shared_memory());
  make_weights(sigma, args.blur_kernel, weights);
  const int64_t radius = args.blur_kernel / 2, start = plane * size * size;
  for (int64_t x = threadIdx.x; x < size; x += kThreads) {
    Real sum = 0;
    for (int64_t k = -radius; k <= radius; ++k) {
      const int64_t from = kColumns ? reflected(y + k, size) * size + x : y * size + reflected(x + k, size);
      sum += weights[k + radius] * (kColumns ? workspace.lines : workspace.unblurred)[start + from];
    }
    if constexpr (kColumns) {
      static_cast<T*>(args.output)[start + y * size + x] = normalised<T>(args, c, sum);
    } else {
      workspace.lines[start + y * size + x] = sum;
    }
  }
}

template <typename Function>
auto for_device_dtype(Dtype dtype, Function&& function) {
  switch (dtype) {
    case Dtype::kFloat64:
      return function.template operator()<double>();
    case Dtype::kFloat16:
      return function.template operator()<__half>();
    case Dtype::kBFloat16:
      return function.template operator()<__nv_bfloat16>();
    default:
      return function.template operator()<float>();
  }
}

size_t real_bytes(const AugmentClips& args) { return args.dtype == Dtype::kFloat64 ? sizeof(double) : sizeof(float); }

bool fits_shared_memory(const AugmentClips& args) {
  return shared_values(args.blur_kernel) * real_bytes(args) <= kSharedBytes;
}

size_t means_bytes(const AugmentClips& args) {
  const size_t bytes = args.batch * args.frames * real_bytes(args);
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

template <typename T>
cudaError_t run(const AugmentClips& args, void* memory, cudaStream_t stream) {
  using Real = DeviceWide<T>;
  Workspace<Real> workspace{};
  workspace.means = static_cast<Real*>(memory);
  const int64_t items = args.batch * args.frames, across = (args.size + kTile - 1) / kTile;
  const bool through_global = args.jitter != nullptr && !fits_shared_memory(args);
  if (through_global) {
    workspace.unblurred = reinterpret_cast<Real*>(static_cast<unsigned char*>(memory) + means_bytes(args));
    workspace.lines = workspace.unblurred + items * 3 * args.size * args.size;
  }
  if (args.jitter != nullptr) {
    const cudaError_t error = launch(&augment_clips_mean_kernel<Real>, dim3(static_cast<unsigned>(items)),
                                     dim3(kThreads), 0, stream, args, workspace.means);
    if (error != cudaSuccess) return error;
  }
  const bool halo = args.jitter != nullptr && !through_global;
  const cudaError_t error =
      launch(&augment_clips_forward_kernel<T>, dim3(static_cast<unsigned>(items * across * across)), dim3(kThreads),
             halo ? shared_values(args.blur_kernel) * sizeof(Real) : 0, stream, args, workspace);
  if (error != cudaSuccess || !through_global) return error;
  const dim3 lines(static_cast<unsigned>(items * 3 * args.size));
  const size_t shared_bytes = args.blur_kernel * sizeof(Real);
  const cudaError_t first =
      launch(&augment_clips_blur_kernel<T, false>, lines, dim3(kThreads), shared_bytes, stream, args, workspace);
  if (first != cudaSuccess) return first;
  return launch(&augment_clips_blur_kernel<T, true>, lines, dim3(kThreads), shared_bytes, stream, args, workspace);
}

}  // namespace

size_t augment_clips_workspace_bytes(const AugmentClips& args) {
  if (args.jitter == nullptr) return 0;
  const size_t planes = fits_shared_memory(args) ? 0 : 2 * args.batch * args.frames * 3 * args.size * args.size;
  return means_bytes(args) + planes * real_bytes(args);
}

cudaError_t augment_clips_forward_cuda(const AugmentClips& args, void* workspace, cudaStream_t stream) {
  if (args.batch == 0 || args.frames == 0) return cudaSuccess;
  return for_device_dtype(args.dtype, [&]<typename T>() { return run<T>(args, workspace, stream); });
}

}  // namespace motionops
