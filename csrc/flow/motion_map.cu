// Forward, whole map: a thread owns four neighbouring columns (one where alignment does not allow more) of a strip of rows and
// walks down it with three rows of u and v in registers, so a value is read from memory once; the columns beside its own and
// the rows around the strip come from the caches.
//
// Forward, grid: a block owns a cell of the grid; its threads walk over the cell's pixels, whose neighbours come from the
// first-level cache, and their sums meet in shared memory in a fixed order. The map itself is never written.
//
// Backward: a thread owns a pixel and asks its four neighbours' slopes, all of which the caches hold.
#include "core/device_types.h"
#include "core/launch.h"
#include "flow/flow_rows.cuh"
#include "flow/motion_map.h"

namespace motionops {
namespace {

constexpr int kThreads = 128;
constexpr int kStripRows = 16;

template <typename T, int kWidth>
struct Columns {
  DeviceWide<T> values[kWidth];
};

template <typename T, int kWidth>
__device__ Columns<T, kWidth> load_columns(const T* from) {
  const auto pack = *reinterpret_cast<const Pack<T, kWidth>*>(from);
  Columns<T, kWidth> result;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) result.values[i] = device_widen(pack.values[i]);
  return result;
}

// Adds the squares of f(x+1) - f(x-1) and f(y+1) - f(y-1) of one plane to `squares`; `row` points at the row's start.
template <typename T, int kWidth>
__device__ void add_squares(const Columns<T, kWidth>& above, const Columns<T, kWidth>& at,
                            const Columns<T, kWidth>& below, const T* row, int64_t x, int64_t width,
                            DeviceWide<T> (&squares)[kWidth]) {
  const DeviceWide<T> left = x > 0 ? device_widen(row[x - 1]) : at.values[0];
  const DeviceWide<T> right = x + kWidth < width ? device_widen(row[x + kWidth]) : at.values[kWidth - 1];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const DeviceWide<T> across =
        (i + 1 < kWidth ? at.values[(i + 1) % kWidth] : right) - (i > 0 ? at.values[(i + kWidth - 1) % kWidth] : left);
    const DeviceWide<T> down = below.values[i] - above.values[i];
    squares[i] += across * across + down * down;
  }
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) motion_map_forward_kernel(MotionMap args) {
  const FlowImages& images = args.images;
  const int64_t groups = images.width / kWidth, strips = (images.height + kStripRows - 1) / kStripRows;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= image_count(images) * strips * groups) return;
  const int64_t x = index % groups * kWidth, first = index / groups % strips * kStripRows;
  const int64_t n = index / groups / strips;
  const int64_t last = first + kStripRows < images.height ? first + kStripRows : images.height;
  const T* u = static_cast<const T*>(images.flow) + image_offset(images, n);
  const T* v = u + images.channel_stride;
  T* map = static_cast<T*>(args.map) + n * images.height * images.width + x;
  const auto row_start = [&](int64_t y) {
    return (y < 0 ? 0 : y < images.height ? y : images.height - 1) * images.row_stride;
  };
  auto u_above = load_columns<T, kWidth>(u + row_start(first - 1) + x);
  auto v_above = load_columns<T, kWidth>(v + row_start(first - 1) + x);
  auto u_at = load_columns<T, kWidth>(u + row_start(first) + x);
  auto v_at = load_columns<T, kWidth>(v + row_start(first) + x);
#pragma unroll 2
  for (int64_t y = first; y < last; ++y) {
    const auto u_below = load_columns<T, kWidth>(u + row_start(y + 1) + x);
    const auto v_below = load_columns<T, kWidth>(v + row_start(y + 1) + x);
    DeviceWide<T> squares[kWidth] = {};
    add_squares<T, kWidth>(u_above, u_at, u_below, u + row_start(y), x, images.width, squares);
    add_squares<T, kWidth>(v_above, v_at, v_below, v + row_start(y), x, images.width, squares);
    Pack<T, kWidth> result;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) result.values[i] = device_narrow<T>(sqrt(squares[i]) / 2);
    *reinterpret_cast<Pack<T, kWidth>*>(map + y * images.width) = result;
    u_above = u_at, u_at = u_below;
    v_above = v_at, v_at = v_below;
  }
}

// Twice the slopes of u and v at one pixel.
template <typename T>
struct Slopes {
  DeviceWide<T> ux, uy, vx, vy;

  __device__ Slopes(const FlowImages& images, const T* u, int64_t y, int64_t x) {
    const T* v = u + images.channel_stride;
    const int64_t row = y * images.row_stride;
    const int64_t above = y > 0 ? row - images.row_stride : row;
    const int64_t below = y + 1 < images.height ? row + images.row_stride : row;
    const int64_t left = x > 0 ? x - 1 : x, right = x + 1 < images.width ? x + 1 : x;
    ux = device_widen(u[row + right]) - device_widen(u[row + left]);
    uy = device_widen(u[below + x]) - device_widen(u[above + x]);
    vx = device_widen(v[row + right]) - device_widen(v[row + left]);
    vy = device_widen(v[below + x]) - device_widen(v[above + x]);
  }
  __device__ DeviceWide<T> norm() const { return sqrt(ux * ux + uy * uy + vx * vx + vy * vy); }
};

template <typename T>
__global__ void __launch_bounds__(kThreads) motion_map_grid_kernel(MotionMap args) {
  using Real = DeviceWide<T>;
  __shared__ Real sums[kThreads];
  const FlowImages& images = args.images;
  const int64_t columns = images.width / args.block_columns, rows = images.height / args.block_rows;
  const int64_t steps = images.frames / args.block_frames;
  const int64_t cell = blockIdx.x;
  const int64_t column = cell % columns, row = cell / columns % rows, step = cell / columns / rows % steps;
  const int64_t b = cell / columns / rows / steps;
  const int64_t pixels = args.block_rows * args.block_columns;
  Real sum = 0;
  for (int64_t t = step * args.block_frames; t < (step + 1) * args.block_frames; ++t) {
    const T* u = static_cast<const T*>(images.flow) + image_offset(images, b * images.frames + t);
    for (int64_t i = threadIdx.x; i < pixels; i += kThreads) {
      const int64_t y = row * args.block_rows + i / args.block_columns;
      const int64_t x = column * args.block_columns + i % args.block_columns;
      sum += Slopes<T>(images, u, y, x).norm();
    }
  }
  sums[threadIdx.x] = sum;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();  // the sums of the threads beyond `half` are there
    if (static_cast<int>(threadIdx.x) < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x == 0) {
    const Real size = static_cast<Real>(args.block_frames * pixels);
    static_cast<T*>(args.map)[cell] = device_narrow<T>(sums[0] / 2 / size);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) motion_map_backward_kernel(MotionMap args) {
  using Real = DeviceWide<T>;
  const FlowImages& images = args.images;
  const int64_t height = images.height, width = images.width;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= image_count(images) * height * width) return;
  const int64_t x = index % width, y = index / width % height, n = index / width / height;
  const int64_t columns = width / args.block_columns, rows = height / args.block_rows;
  const int64_t steps = images.frames / args.block_frames;
  const T* u = static_cast<const T*>(images.flow) + image_offset(images, n);
  const int64_t b = n / images.frames, step = n % images.frames / args.block_frames;
  const T* grad = static_cast<const T*>(args.grad_map) + (b * steps + step) * rows * columns;
  const Real size = static_cast<Real>(args.block_frames * args.block_rows * args.block_columns);
  Real grad_u = 0, grad_v = 0;
  // P at the pixel's neighbour on one side; beyond the edge it is that of the pixel itself, with the other sign.
  const auto add = [&](int64_t dy, int64_t dx, Real sign) {
    const bool beyond = y + dy < 0 || y + dy >= height || x + dx < 0 || x + dx >= width;
    const int64_t at_y = beyond ? y : y + dy, at_x = beyond ? x : x + dx;
    const Slopes<T> slopes(images, u, at_y, at_x);
    const Real norm = slopes.norm();
    if (!(norm > 0)) return;
    const Real g = device_widen(grad[at_y / args.block_rows * columns + at_x / args.block_columns]) / size;
    const Real through = (beyond ? -sign : sign) * g / (2 * norm);
    grad_u += through * (dx != 0 ? slopes.ux : slopes.uy);
    grad_v += through * (dx != 0 ? slopes.vx : slopes.vy);
  };
  add(0, -1, Real{1});
  add(0, 1, Real{-1});
  add(-1, 0, Real{1});
  add(1, 0, Real{-1});
  T* grad_flow = static_cast<T*>(args.grad_flow) + (2 * n * height + y) * width + x;
  grad_flow[0] = device_narrow<T>(grad_u);
  grad_flow[height * width] = device_narrow<T>(grad_v);
}

unsigned blocks_of(int64_t threads) { return static_cast<unsigned>((threads + kThreads - 1) / kThreads); }

template <typename T, int kWidth>
cudaError_t start_forward(const MotionMap& args, cudaStream_t stream) {
  const int64_t strips = (args.images.height + kStripRows - 1) / kStripRows;
  const int64_t threads = image_count(args.images) * strips * (args.images.width / kWidth);
  return launch(&motion_map_forward_kernel<T, kWidth>, dim3(blocks_of(threads)), dim3(kThreads), 0, stream, args);
}

template <typename T>
cudaError_t forward(const MotionMap& args, cudaStream_t stream) {
  if (args.has_grid()) {
    const FlowImages& images = args.images;
    const int64_t cells = images.batch * (images.frames / args.block_frames) * (images.height / args.block_rows) *
                          (images.width / args.block_columns);
    return launch(&motion_map_grid_kernel<T>, dim3(static_cast<unsigned>(cells)), dim3(kThreads), 0, stream, args);
  }
  return rows_are_aligned<T>(args.images, kWidthOf<T>, args.map) ? start_forward<T, kWidthOf<T>>(args, stream)
                                                                 : start_forward<T, 1>(args, stream);
}

template <typename T>
cudaError_t backward(const MotionMap& args, cudaStream_t stream) {
  const int64_t pixels = image_count(args.images) * args.images.height * args.images.width;
  return launch(&motion_map_backward_kernel<T>, dim3(blocks_of(pixels)), dim3(kThreads), 0, stream, args);
}

}  // namespace

cudaError_t motion_map_forward_cuda(const MotionMap& args, cudaStream_t stream) {
  return for_device_dtype(args.images.dtype, [&]<typename T>() { return forward<T>(args, stream); });
}

cudaError_t motion_map_backward_cuda(const MotionMap& args, cudaStream_t stream) {
  return for_device_dtype(args.images.dtype, [&]<typename T>() { return backward<T>(args, stream); });
}

}  // namespace motionops
