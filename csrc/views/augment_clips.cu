// A block makes a tile of one frame. First it lays down, in shared memory, where the tile's rows and columns lie in the
// source; then a thread makes four pixels, one below the other, which share a column's taps and the way through the
// look: crop, difference and colours in registers, one write. Where the clip is blurred, the tile and its halo go to
// shared memory instead, are blurred along the lines in place there, and along the columns on the way out; a kernel too
// wide for that goes through global memory, in two further launches. Contrast's mean comes from a launch before, one
// block a frame, which crops the clips that have contrast a first time; a block of another clip leaves at once.
// Bytes: the four taps of neighbouring pixels and the tiles beside it share cache lines, so the cut-out is read about
// once (twice with contrast), a blurred tile reads its halo again from the cache, and the output is written once.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "core/device_types.h"
#include "core/launch.h"
#include "core/table_walk.h"
#include "core/warp.h"
#include "core/workspace.h"
#include "views/augment_clips.h"

namespace motionops {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = 4;           // pixels of a thread, one below the other
constexpr int kMostColumns = 128;  // of a tile: four for each lane of a warp, which blurs a line in place
constexpr int kMostRows = 32;
constexpr size_t kSharedBytes = 72 * 1024;  // of a block: two of them fit on sm_80, three on sm_90
// A blurred tile may be cropped so many times over for its halo before two passes through global memory cost less.
constexpr int kMostRepeats = 16;
constexpr double kReach = 6.438;  // deviations at which a blur's weight is 1e-9 of the middle's: left out from there on

// Parts of at most `most` each; or the least that each of `most` parts must take.
constexpr int64_t parts_of(int64_t count, int64_t most) { return (count + most - 1) / most; }
__host__ __device__ constexpr int round_to_four(int count) { return (count + 3) / 4 * 4; }

enum Adjustment : int { kBrightness, kContrast, kSaturation, kHue };

template <typename Real>
struct Color {
  Real red, green, blue;
};

// NaN becomes 0.
__device__ __forceinline__ float clamp01(float value) { return __saturatef(value); }
__device__ __forceinline__ double clamp01(double value) { return fmin(fmax(value, 0.0), 1.0); }
__device__ __forceinline__ float reciprocal(float value) { return __fdividef(1.0f, value); }
__device__ __forceinline__ double reciprocal(double value) { return 1 / value; }

// The nearest whole number, of values up to 2^22: the conversion unit, which rounds otherwise, takes 8 times as long.
__device__ __forceinline__ float nearest(float value) { return (value + 12582912.0f) - 12582912.0f; }
__device__ __forceinline__ double nearest(double value) { return rint(value); }

template <typename Real>
__device__ __forceinline__ Real gray_of(const Color<Real>& x) {
  return Real(0.2989) * x.red + Real(0.587) * x.green + Real(0.114) * x.blue;
}

template <typename Real>
__device__ __forceinline__ Color<Real> blend(const Color<Real>& x, Real factor, Real added) {
  return {clamp01(factor * x.red + added), clamp01(factor * x.green + added), clamp01(factor * x.blue + added)};
}

// colour.py's M - C · clamp(min(k, 4 - k), 0, 1), k = (n + h) mod 6, as m + C · clamp(|k - 2| - 1, 0, 1); `angle` is
// n + h - 2, and |k - 2| may as well be taken of it less the nearest multiple of 6.
template <typename Real>
__device__ __forceinline__ Real turned(Real angle, Real least, Real chroma) {
  const Real turn = angle - 6 * nearest(angle * (Real{1} / 6));
  return least + chroma * clamp01(std::fabs(turn) - 1);
}

template <typename Real>
__device__ __forceinline__ Color<Real> turn_hue(const Color<Real>& x, Real shift) {
  const Real largest = max(max(x.red, x.green), x.blue), least = min(min(x.red, x.green), x.blue);
  const Real chroma = largest - least;
  const Real scale = reciprocal(max(chroma, Real(1e-30)));
  Real difference = x.red - x.green, middle = 4;
  if (largest == x.green) difference = x.blue - x.red, middle = 2;
  if (largest == x.red) difference = x.green - x.blue, middle = 0;
  const Real angle = difference * scale + (6 * shift + middle);
  return {turned(angle + 3, least, chroma), turned(angle + 1, least, chroma), turned(angle - 1, least, chroma)};
}

// What is done to the pixels of a clip; in shared memory, as it is the same for all threads.
template <typename Real>
struct Look {
  enum Step : int { kBlend, kSaturate, kTurnHue };  // with a constant; with the pixel's gray
  int steps;
  Step step[5];
  Real factor[5];
  Real added[5];             // of kBlend
  Real scale[3], offset[3];  // of the normalisation

  __device__ void append(Step what, Real by, Real constant) {
    step[steps] = what;
    factor[steps] = by;
    added[steps++] = constant;
  }

  // `mean` is contrast's; or what comes before contrast alone, for its mean.
  __device__ void set(const AugmentClips& args, int64_t b, Real mean, bool before_contrast) {
    steps = 0;
    Real hidden = 0;  // NaN where a factor is no number, which clamping would turn into black
    for (int k = 0; args.jitter != nullptr && k < 4; ++k) {
      const int64_t adjustment = args.order[4 * b + k];
      if (adjustment < kBrightness || adjustment > kHue) continue;
      const Real by = static_cast<const Real*>(args.jitter)[4 * b + adjustment];
      if (by == (adjustment == kHue ? Real{0} : Real{1})) continue;
      hidden += 0 * by;
      if (adjustment == kContrast && before_contrast) break;
      if (adjustment == kBrightness) append(kBlend, by, 0);
      if (adjustment == kContrast) append(kBlend, by, (1 - by) * mean);
      if (adjustment == kSaturation) append(kSaturate, by, 0);
      if (adjustment == kHue) append(kTurnHue, by, 0);
    }
    if (args.jitter != nullptr && args.grayscale[b] && !before_contrast) append(kSaturate, 0, 0);
    for (int c = 0; c < 3; ++c) {
      scale[c] = static_cast<Real>(args.scale[c]);
      offset[c] = hidden - static_cast<Real>(args.mean[c] * args.scale[c]);
    }
  }

  // A way through the steps for all pixels of a thread: finding it costs as much as a step.
  __device__ __forceinline__ void apply(Color<Real> (&pixels)[kRows]) const {
#pragma unroll 1
    for (int k = 0; k < steps; ++k) {
      const Real by = factor[k], constant = added[k];
      if (step[k] == kBlend) {
#pragma unroll
        for (auto& pixel : pixels) pixel = blend(pixel, by, constant);
      } else if (step[k] == kSaturate) {
#pragma unroll
        for (auto& pixel : pixels) pixel = blend(pixel, by, (1 - by) * gray_of(pixel));
      } else {
#pragma unroll
        for (auto& pixel : pixels) pixel = turn_hue(pixel, by);
      }
    }
  }
};

// The two source pixels of one output pixel along one axis.
template <typename Real>
struct Tap {
  int low, high;
  Real weight;  // of high
};

template <typename Real>
__device__ __forceinline__ Tap<Real> tap_of(const Real* extent, int64_t length, int64_t size, int i) {
  const Real most = static_cast<Real>(length - 1);
  const Real fraction =
      extent[0] + (extent[1] - extent[0]) * ((static_cast<Real>(i) + Real(0.5)) / static_cast<Real>(size));
  Real position = fraction * static_cast<Real>(length) - Real(0.5);
  position = position > 0 ? position : Real{0};  // NaN too
  position = position < most ? position : most;
  const int low = static_cast<int>(position);
  return {low, low + 1 < length ? low + 1 : low, position - static_cast<Real>(low)};
}

template <typename Real>
struct alignas(16) RowTap {
  const uint8_t *upper, *lower;  // the first pixels of these rows of frame t
  Real weight;                   // of lower
};
template <typename Real>
struct ColumnTap {
  int left, right;  // pixels
  Real weight;      // of right
};

// The value between four of 0..255, in 0..1.
template <typename Real>
__device__ __forceinline__ Real between(Real upper_left, Real upper_right, Real lower_left, Real lower_right,
                                        Real x_weight, Real y_weight) {
  const Real upper = upper_left + (upper_right - upper_left) * x_weight;
  const Real lower = lower_left + (lower_right - lower_left) * x_weight;
  return (upper + (lower - upper) * y_weight) * (Real{1} / 255);
}

__device__ __forceinline__ int reflected(int i, int size) {
  i = i < 0 ? -i : i;
  return i >= size ? 2 * (size - 1) - i : i;
}

// One frame of one clip, cropped.
template <typename Real>
struct Frame {
  AugmentVideo video;
  const uint8_t* now;   // frame t
  int64_t before;       // bytes from there to frame t - 1
  const Real* extent;   // y start, end, x start, end
  bool is_interleaved;  // the three bytes of a pixel, then the next one's

  __device__ Frame(const AugmentClips& args, int64_t b, int64_t t) : video(args.common) {
    if (args.videos != nullptr) {
      video = args.videos[b];
    } else {
      video.frames += b * args.stride_b;
    }
    now = video.frames + t * video.stride_t;
    before = (t == 0 ? args.frames - 1 : -1) * video.stride_t;
    extent = static_cast<const Real*>(args.extents) + 6 * b + 2;
    is_interleaved = video.stride_x == 3 && video.stride_c == 1;
  }

  // Where rows from `first_row` on lie, which are in the picture, and columns from `first_column` on, which may be
  // before or behind it by `radius`; further ones are as the last. By the whole block; a barrier follows.
  __device__ void lay(int height, int width, int first_row, int rows, int first_column, int columns, int radius,
                      RowTap<Real>* row_taps, ColumnTap<Real>* column_taps) const {
    rows = round_to_four(rows);
    for (int i = threadIdx.x; i < rows + columns; i += kThreads) {
      if (i < rows) {
        const auto tap = tap_of(extent, video.height, height, min(first_row + i, height - 1));
        row_taps[i] = {now + tap.low * video.stride_y, now + tap.high * video.stride_y, tap.weight};
      } else {
        const int column = reflected(min(first_column + i - rows, width - 1 + radius), width);
        const auto tap = tap_of(extent + 2, video.width, width, column);
        column_taps[i - rows] = {tap.low, tap.high, tap.weight};
      }
    }
  }

  // A pixel of frame t, or of one `shift` bytes from there. Where a pixel is three bytes, an address is that of a row
  // and an offset of 32 bits.
  template <bool kInterleaved>
  __device__ __forceinline__ Color<Real> crop(const RowTap<Real>& y, const ColumnTap<Real>& x, int64_t shift) const {
    using Offset = std::conditional_t<kInterleaved, unsigned, int64_t>;
    const Offset pixel_bytes = kInterleaved ? 3 : static_cast<Offset>(video.stride_x);
    const Offset left = static_cast<Offset>(x.left) * pixel_bytes, right = static_cast<Offset>(x.right) * pixel_bytes;
    const uint8_t *upper = y.upper + shift, *lower = y.lower + shift;
    const auto channel = [&](int c) {
      const int64_t place = kInterleaved ? c : c * video.stride_c;
      return between<Real>(__ldg(upper + left + place), __ldg(upper + right + place), __ldg(lower + left + place),
                           __ldg(lower + right + place), x.weight, y.weight);
    };
    return {channel(0), channel(1), channel(2)};
  }

  template <bool kInterleaved>
  __device__ __forceinline__ Color<Real> changed(const RowTap<Real>& y, const ColumnTap<Real>& x,
                                                 bool difference) const {
    const Color<Real> value = crop<kInterleaved>(y, x, 0);
    if (!difference) return value;
    const Color<Real> last = crop<kInterleaved>(y, x, before);
    return {(value.red - last.red + 1) / 2, (value.green - last.green + 1) / 2, (value.blue - last.blue + 1) / 2};
  }

  // kRows pixels of a column as they are before the look. Only the commonest case loads all of them at once: in the
  // others that would spill registers.
  __device__ __forceinline__ void pixels_of(const RowTap<Real>* rows, const ColumnTap<Real>& x, bool difference,
                                            Color<Real> (&pixels)[kRows]) const {
    if (is_interleaved && !difference) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) pixels[r] = crop<true>(rows[r], x, 0);
      return;
    }
#pragma unroll 1
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int up = 1; up < kRows; ++up) pixels[up - 1] = pixels[up];  // an index known later would not be in registers
      pixels[kRows - 1] =
          is_interleaved ? changed<true>(rows[r], x, difference) : changed<false>(rows[r], x, difference);
    }
  }

  // Makes the pixels of the `rows` and `columns` that have been laid; use(row, column, pixels) gets those of rows from
  // `row` on, which at the end may be more than there are.
  template <typename Use>
  __device__ __forceinline__ void make(const RowTap<Real>* row_taps, const ColumnTap<Real>* column_taps, int rows,
                                       int columns, bool difference, const Look<Real>& look, const Use& use) const {
    for (TableWalk at(columns); at.row * kRows < rows; at.step()) {
      const ColumnTap<Real> x = column_taps[at.column];
      Color<Real> pixels[kRows];
      pixels_of(row_taps + at.row * kRows, x, difference, pixels);
      look.apply(pixels);
      use(at.row * kRows, at.column, pixels);
    }
  }
};

// What the launches hand to each other.
template <typename Real>
struct Handed {
  Real* means;      // [B, T]
  Real* unblurred;  // [B, 3, T, height, width], of a kernel too wide for shared memory
  Real* lines;      // the same, blurred along the lines
};

constexpr int kMeanSide = 128;

template <typename Real>
__global__ void __launch_bounds__(kThreads, sizeof(Real) == 8 ? 1 : 3)
    augment_clips_mean_kernel(const __grid_constant__ AugmentClips args, Real* means) {
  __shared__ Real scratch[kThreads / 32];
  __shared__ Look<Real> look;
  __shared__ RowTap<Real> row_taps[kMeanSide];
  __shared__ ColumnTap<Real> column_taps[kMeanSide];
  const auto frames = static_cast<unsigned>(args.frames);
  const int64_t b = blockIdx.x / frames, t = blockIdx.x % frames;
  if (static_cast<const Real*>(args.jitter)[4 * b + kContrast] == 1) return;
  const Frame<Real> frame(args, b, t);
  if (threadIdx.x == 0) look.set(args, b, 0, true);
  const int height = static_cast<int>(args.height), width = static_cast<int>(args.width);
  Real total = 0;
  for (int top = 0; top < height; top += kMeanSide) {
    for (int left = 0; left < width; left += kMeanSide) {
      const int rows = min(kMeanSide, height - top), columns = min(kMeanSide, width - left);
      frame.lay(height, width, top, rows, left, columns, 0, row_taps, column_taps);
      __syncthreads();
      frame.make(row_taps, column_taps, rows, columns, args.difference, look,
                 [&](int row, int, const Color<Real>(&pixels)[kRows]) {
#pragma unroll
                   for (int r = 0; r < kRows; ++r) {
                     if (row + r < rows) total += gray_of(pixels[r]);
                   }
                 });
      __syncthreads();  // the taps are laid anew
    }
  }
  total = block_sum(total, scratch);
  if (threadIdx.x == 0) means[blockIdx.x] = total / (static_cast<Real>(height) * static_cast<Real>(width));
}

// Four neighbours, loaded and stored at once.
template <typename T>
struct alignas(16) Four {
  T values[4];
};

// ---- blur ----------------------------------------------------------------------------------------------------------
// A thread makes four outputs of a line at once, from inputs in blocks of four: input i of output o has weight i - o.
// So the weights lie behind three zeros and before some more, and a block needs four new ones.

template <typename Real>
__host__ __device__ int radius_of(Real sigma, int64_t kernel) {
  const auto most = static_cast<Real>(kernel / 2);
  if (!(sigma > 0)) return 0;
  return static_cast<int>(sigma * Real(kReach) < most ? sigma * Real(kReach) : most);
}

// Blocks of inputs of four outputs, and what they read beyond the first.
__host__ __device__ constexpr int input_blocks(int radius) { return (2 * radius + 7) / 4; }
__host__ __device__ constexpr int pitch_of(int columns, int radius) {
  return round_to_four(columns) + 4 * (input_blocks(radius) - 1);
}
__host__ __device__ constexpr int weight_count(int radius) { return 4 * input_blocks(radius) + 4; }

// By the first warp; a barrier follows.
template <typename Real>
__device__ void lay_weights(Real sigma, int radius, Real* weights) {
  if (threadIdx.x >= 32) return;
  Real total = 0;
  for (int place = threadIdx.x; place < weight_count(radius); place += 32) {
    const int distance = place - 3 - radius;
    const Real deviations = static_cast<Real>(distance) / sigma;
    const Real weight = std::abs(distance) <= radius ? exp(Real(-0.5) * deviations * deviations) : Real{0};
    weights[place] = weight;
    total += weight;
  }
  total = warp_sum(total);
  for (int place = threadIdx.x; place < weight_count(radius); place += 32) weights[place] /= total;
}

// The weights of a block of inputs: take(next four) and then of(input, output).
template <typename Real>
struct SlidingWeights {
  Real values[8];

  __device__ __forceinline__ explicit SlidingWeights(const Real* weights) { put<4>(weights); }
  __device__ __forceinline__ void take(const Real* next) {
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = values[i + 4];
    put<4>(next);
  }
  __device__ __forceinline__ Real of(int input, int output) const { return values[input - output + 3]; }

 private:
  template <int kFrom>
  __device__ __forceinline__ void put(const Real* weights) {
    const auto four = *reinterpret_cast<const Four<Real>*>(weights);
#pragma unroll
    for (int i = 0; i < 4; ++i) values[kFrom + i] = four.values[i];
  }
};

// Blurs lines [lines][pitch] in place, `quads` times four outputs each. A line belongs to one warp, whose lanes all
// have read before one writes.
template <typename Real>
__device__ void blur_lines(Real* pixels, const Real* weights, int lines, int quads, int pitch, int blocks) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int at_once = 32 / quads, line_of_warp = lane / quads;
  for (int first = warp * at_once; first < lines; first += kThreads / 32 * at_once) {
    const int line = first + line_of_warp;
    const bool takes_part = line_of_warp < at_once && line < lines;
    auto* inputs = reinterpret_cast<Four<Real>*>(pixels + (takes_part ? line * pitch : 0)) + lane % quads;
    Four<Real> sums{};
    SlidingWeights<Real> sliding(weights);
    for (int block = 0; takes_part && block < blocks; ++block) {
      sliding.take(weights + 4 * block + 4);
      const Four<Real> input = inputs[block];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int o = 0; o < 4; ++o) sums.values[o] += sliding.of(i, o) * input.values[i];
      }
    }
    __syncwarp();
    if (takes_part) *inputs = sums;
  }
}

// ---- tiles ---------------------------------------------------------------------------------------------------------

// A block's shared memory, in bytes from its beginning: the pixels of a blurred tile and its halo [3][rows][pitch],
// where its rows and columns lie in the source, the blur's weights, and where in the halo the inputs' rows are.
struct SharedLayout {
  size_t row_taps, column_taps, weights, places, bytes;

  template <typename Real>
  static __host__ __device__ SharedLayout of(int tile_rows, int rows, int columns, int radius) {
    SharedLayout layout;
    layout.row_taps = radius == 0 ? 0 : size_t{3} * rows * columns * sizeof(Real);
    layout.column_taps = layout.row_taps + round_to_four(rows) * sizeof(RowTap<Real>);
    layout.weights = layout.column_taps + round_to_four(columns) * sizeof(ColumnTap<Real>);
    layout.places = layout.weights + weight_count(radius) * sizeof(Real);
    layout.bytes = layout.places + (round_to_four(tile_rows) + 4 * input_blocks(radius)) * sizeof(int);
    return layout;
  }
};

struct Tiling {
  int rows, columns;      // of a tile; columns a multiple of 4
  unsigned down, across;  // tiles
  size_t shared_bytes;
};

// Stores the first `count` pixels of a thread, `pitch` apart, channels `plane` apart, as convert(channel, value).
template <typename Real, typename To, typename Convert>
__device__ __forceinline__ void store_column(const Color<Real> (&pixels)[kRows], int count, To* to, int64_t pitch,
                                             int64_t plane, const Convert& convert) {
#pragma unroll
  for (int r = 0; r < kRows; ++r, to += pitch) {
    if (r >= count) return;
    to[0] = convert(0, pixels[r].red);
    to[plane] = convert(1, pixels[r].green);
    to[2 * plane] = convert(2, pixels[r].blue);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 1 : 3)
    augment_clips_forward_kernel(const __grid_constant__ AugmentClips args, const __grid_constant__ Tiling tiling,
                                 const __grid_constant__ Handed<DeviceWide<T>> handed) {
  using Real = DeviceWide<T>;
  __shared__ Look<Real> look;
  const int height = static_cast<int>(args.height), width = static_cast<int>(args.width);
  const auto frames = static_cast<unsigned>(args.frames);
  const unsigned tiles = tiling.down * tiling.across, item = blockIdx.x / tiles, tile = blockIdx.x % tiles;
  const int64_t b = item / frames, t = item % frames;
  const int top = static_cast<int>(tile / tiling.across) * tiling.rows;
  const int left = static_cast<int>(tile % tiling.across) * tiling.columns;
  const int tile_rows = min(tiling.rows, height - top), tile_columns = min(tiling.columns, width - left);
  const Frame<Real> frame(args, b, t);
  const Real sigma = args.jitter == nullptr ? Real{0} : static_cast<const Real*>(args.blur_sigma)[b];
  const bool to_global = handed.unblurred != nullptr && sigma > 0;
  const int radius = to_global ? 0 : radius_of(sigma, args.blur_kernel);

  const int first_row = max(0, top - radius), rows = min(height, top + tile_rows + radius) - first_row;
  const int columns = radius == 0 ? tile_columns : pitch_of(tile_columns, radius);
  unsigned char* memory = dynamic_shared_memory();
  const auto layout = SharedLayout::of<Real>(tile_rows, rows, columns, radius);
  auto* row_taps = reinterpret_cast<RowTap<Real>*>(memory + layout.row_taps);
  auto* column_taps = reinterpret_cast<ColumnTap<Real>*>(memory + layout.column_taps);
  if (threadIdx.x == kThreads - 1) {
    // a mean that nobody made is not asked for
    const bool has_contrast = args.jitter != nullptr && static_cast<const Real*>(args.jitter)[4 * b + kContrast] != 1;
    look.set(args, b, has_contrast ? handed.means[item] : Real{0}, false);
  }
  frame.lay(height, width, first_row, rows, left - radius, columns, radius, row_taps, column_taps);

  auto* halo = reinterpret_cast<Real*>(memory);
  auto* weights = reinterpret_cast<Real*>(memory + layout.weights);
  auto* places = reinterpret_cast<int*>(memory + layout.places);
  const int blocks = input_blocks(radius), pitch = columns, row_quads = round_to_four(tile_rows) / 4;
  if (radius > 0) {
    lay_weights(sigma, radius, weights);
    for (int i = threadIdx.x; i < 4 * (row_quads + blocks); i += kThreads) {
      const int row = reflected(min(top - radius + i, height - 1 + radius), height) - first_row;
      places[i] = min(row, rows - 1) * pitch;  // further ones have no weight
    }
  }
  __syncthreads();

  const int64_t area = int64_t{height} * width, plane = args.frames * area, start = b * 3 * plane + t * area;
  T* output = static_cast<T*>(args.output) + start;
  frame.make(row_taps, column_taps, rows, columns, args.difference, look,
             [&](int row, int column, const Color<Real>(&pixels)[kRows]) {
               const int count = min(kRows, rows - row);
               if (radius > 0) {
                 store_column(pixels, count, halo + row * pitch + column, pitch, int64_t{rows} * pitch,
                              [](int, Real value) { return value; });
                 return;
               }
               const int64_t to = int64_t{top + row} * width + left + column;
               if (to_global) {
                 store_column(pixels, count, handed.unblurred + start + to, width, plane,
                              [](int, Real value) { return value; });
               } else {
                 store_column(pixels, count, output + to, width, plane, [&](int c, Real value) {
                   return device_narrow<T>(value * look.scale[c] + look.offset[c]);
                 });
               }
             });
  if (radius == 0) return;
  __syncthreads();
  const int quads = round_to_four(tile_columns) / 4;
  blur_lines(halo, weights, 3 * rows, quads, pitch, blocks);
  __syncthreads();
  // Along the columns, four outputs of four of them at once.
  const bool packs = width % 4 == 0 && reinterpret_cast<uintptr_t>(args.output) % (4 * sizeof(T)) == 0;
  for (TableWalk at(quads); at.row < 3 * row_quads; at.step()) {
    const int c = at.row < row_quads ? 0 : at.row < 2 * row_quads ? 1 : 2;
    const int row = 4 * (at.row - c * row_quads), column = 4 * at.column;
    const Real* inputs = halo + c * rows * pitch + column;
    Four<Real> sums[4] = {};
    SlidingWeights<Real> sliding(weights);
    for (int block = 0; block < blocks; ++block) {
      sliding.take(weights + 4 * block + 4);
      const auto place = *reinterpret_cast<const Four<int>*>(places + row + 4 * block);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const auto input = *reinterpret_cast<const Four<Real>*>(inputs + place.values[i]);
#pragma unroll
        for (int o = 0; o < 4; ++o) {
#pragma unroll
          for (int x = 0; x < 4; ++x) sums[o].values[x] += sliding.of(i, o) * input.values[x];
        }
      }
    }
    const Real scale = look.scale[c], offset = look.offset[c];
    T* to = output + c * plane + int64_t{top + row} * width + left + column;
#pragma unroll
    for (int o = 0; o < 4; ++o, to += width) {
      if (row + o >= tile_rows) break;
      Pack<T, 4> made;
#pragma unroll
      for (int x = 0; x < 4; ++x) made.values[x] = device_narrow<T>(sums[o].values[x] * scale + offset);
      if (packs) {
        *reinterpret_cast<Pack<T, 4>*>(to) = made;
      } else {
#pragma unroll
        for (int x = 0; x < 4; ++x) {
          if (column + x < tile_columns) to[x] = made.values[x];
        }
      }
    }
  }
}

// Blurs planes of blurred clips along one axis through global memory: a block makes one line of one plane; kColumns
// is the second pass, which normalises.
template <typename T, bool kColumns>
__global__ void __launch_bounds__(kThreads)
    augment_clips_blur_kernel(const __grid_constant__ AugmentClips args,
                              const __grid_constant__ Handed<DeviceWide<T>> handed) {
  using Real = DeviceWide<T>;
  __shared__ Look<Real> look;
  const int height = static_cast<int>(args.height), width = static_cast<int>(args.width);
  const int y = static_cast<int>(blockIdx.x % static_cast<unsigned>(height));
  const int64_t plane = blockIdx.x / static_cast<unsigned>(height);  // of [B, 3, T]
  const int64_t b = plane / (3 * args.frames), c = plane / args.frames % 3;
  const Real sigma = static_cast<const Real*>(args.blur_sigma)[b];
  if (!(sigma > 0)) return;
  Real* weights = reinterpret_cast<Real*>(dynamic_shared_memory());
  const int radius = radius_of(sigma, args.blur_kernel);
  lay_weights(sigma, radius, weights);
  if (threadIdx.x == kThreads - 1) look.set(args, b, 0, false);
  __syncthreads();
  const int64_t start = plane * height * width;
  const Real* from = (kColumns ? handed.lines : handed.unblurred) + start;
  for (int x = threadIdx.x; x < width; x += kThreads) {
    Real sum = 0;
    for (int k = -radius; k <= radius; ++k) {
      const int place = kColumns ? reflected(y + k, height) * width + x : y * width + reflected(x + k, width);
      sum += weights[k + radius + 3] * from[place];
    }
    const int64_t to = start + y * width + x;
    if constexpr (kColumns) {
      static_cast<T*>(args.output)[to] = device_narrow<T>(sum * look.scale[c] + look.offset[c]);
    } else {
      handed.lines[to] = sum;
    }
  }
}

// The tiles for which the fewest pixels are cropped, halos included, of those whose blur fits shared memory; without
// any (`fits`) those of a picture that is not blurred there.
template <typename Real>
Tiling tiling_of(const AugmentClips& args, bool* fits) {
  const int height = static_cast<int>(args.height), width = static_cast<int>(args.width);
  const auto tiled = [&](int rows, int columns, int radius) {
    const int halo = std::min(height, rows + 2 * radius);
    return Tiling{rows, columns, static_cast<unsigned>(parts_of(height, rows)),
                  static_cast<unsigned>(parts_of(width, columns)),
                  SharedLayout::of<Real>(rows, halo, radius == 0 ? columns : pitch_of(columns, radius), radius).bytes};
  };
  const auto share = [](int side, int64_t parts) { return static_cast<int>(parts_of(side, parts)); };
  const int least_across = static_cast<int>(parts_of(width, kMostColumns));
  const Tiling sharp = tiled(share(height, parts_of(height, kMostRows)), round_to_four(share(width, least_across)), 0);
  const int radius = args.jitter == nullptr ? 0 : static_cast<int>(args.blur_kernel / 2);
  *fits = true;
  if (radius == 0) return sharp;
  Tiling best = sharp;
  int64_t least = int64_t{kMostRepeats} * height * width;
  *fits = false;
  for (int across = least_across; across <= 4 * least_across; ++across) {
    for (int64_t down = parts_of(height, kMostRows); down <= height; down *= 2) {
      const Tiling tiling = tiled(share(height, down), round_to_four(share(width, across)), radius);
      if (tiling.shared_bytes > kSharedBytes) continue;
      const int64_t cropped = int64_t{tiling.down} * tiling.across * std::min(height, tiling.rows + 2 * radius) *
                              pitch_of(tiling.columns, radius);
      if (cropped < least) {
        least = cropped;
        best = tiling;
        *fits = true;
      }
      break;
    }
  }
  return best;
}

struct Plan {
  Tiling tiling;
  void *means = nullptr, *unblurred = nullptr, *lines = nullptr;  // of Handed
};

template <typename Real>
Plan make_plan(const AugmentClips& args, Workspace& workspace) {
  Plan plan;
  bool fits;
  plan.tiling = tiling_of<Real>(args, &fits);
  if (args.jitter == nullptr) return plan;
  const int64_t items = args.batch * args.frames, values = items * 3 * args.height * args.width;
  plan.means = workspace.take<Real>(items);
  if (!fits) {
    plan.unblurred = workspace.take<Real>(values);
    plan.lines = workspace.take<Real>(values);
  }
  return plan;
}

template <typename T>
cudaError_t run(const AugmentClips& args, void* memory, cudaStream_t stream) {
  using Real = DeviceWide<T>;
  Workspace workspace(memory);
  const Plan plan = make_plan<Real>(args, workspace);
  const Tiling& tiling = plan.tiling;
  const Handed<Real> handed{static_cast<Real*>(plan.means), static_cast<Real*>(plan.unblurred),
                            static_cast<Real*>(plan.lines)};
  const int64_t items = args.batch * args.frames, blocks = items * tiling.down * tiling.across;
  if (args.jitter != nullptr) {
    const cudaError_t error =
        launch(&augment_clips_mean_kernel<Real>, grid_of(items), dim3(kThreads), 0, stream, args, handed.means);
    if (error != cudaSuccess) return error;
  }
  const cudaError_t error = launch(&augment_clips_forward_kernel<T>, grid_of(blocks), dim3(kThreads),
                                   tiling.shared_bytes, stream, args, tiling, handed);
  if (error != cudaSuccess || plan.lines == nullptr) return error;
  const dim3 grid = grid_of(items * 3 * args.height);  // a block a line
  const size_t shared_bytes = weight_count(static_cast<int>(args.blur_kernel / 2)) * sizeof(Real);
  const cudaError_t first =
      launch(&augment_clips_blur_kernel<T, false>, grid, dim3(kThreads), shared_bytes, stream, args, handed);
  if (first != cudaSuccess) return first;
  return launch(&augment_clips_blur_kernel<T, true>, grid, dim3(kThreads), shared_bytes, stream, args, handed);
}

}  // namespace

size_t augment_clips_workspace_bytes(const AugmentClips& args) {
  Workspace sizes(nullptr);
  if (args.dtype == Dtype::kFloat64) {
    make_plan<double>(args, sizes);
  } else {
    make_plan<float>(args, sizes);
  }
  return sizes.bytes();
}

cudaError_t augment_clips_forward_cuda(const AugmentClips& args, void* workspace, cudaStream_t stream) {
  if (args.batch == 0 || args.frames == 0) return cudaSuccess;
  return for_device_dtype(args.dtype, [&]<typename T>() { return run<T>(args, workspace, stream); });
}

}  // namespace motionops
