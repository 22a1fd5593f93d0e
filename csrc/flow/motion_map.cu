// Forward, whole map: a thread walks down its strip with three rows of u and v in registers, so a value is read from
// memory once; the columns beside its own and the rows around the strip come from the caches.
//
// Forward, grid: a block owns cells side by side, so that what lies beside one cell is another's. Its threads walk the
// strips of the cells as above, and their sums meet in shared memory in a fixed order. The map itself is never written.
//
// Backward: the same walk, one row further on both sides and two columns. The slopes' gradients along a row are its
// own, those along a column wait for the rows above and below. The least numbers of blocks a multiprocessor are there
// because the compiler, where it may choose, spills a few registers.
#include <algorithm>

#include "core/device_types.h"
#include "core/root.h"
#include "core/rounded_product.h"
#include "flow/flow_rows.cuh"
#include "flow/motion_map.h"

namespace motionops {
namespace {

// u and v of one row.
template <typename T, int kWidth, int kHalo>
struct FlowRow {
  Row<T, kWidth, kHalo> u, v;

  __device__ FlowRow(const Planes<T>& planes, int64_t row, int x)
      : u(planes.u + row, x, planes.width), v(planes.v + row, x, planes.width) {}
};

// Twice the slopes at column x + i.
template <typename T, int kWidth, int kHalo>
__device__ DeviceWide<T> slope_x(const Row<T, kWidth, kHalo>& at, int i) {
  return at.values[kHalo + i + 1] - at.values[kHalo + i - 1];
}
template <typename T, int kWidth, int kHalo>
__device__ DeviceWide<T> slope_y(const Row<T, kWidth, kHalo>& above, const Row<T, kWidth, kHalo>& below, int i) {
  return below.values[kHalo + i] - above.values[kHalo + i];
}

// Calls use(values) for the strip's rows from the top, with twice the map in each.
template <typename T, int kWidth, typename Use>
__device__ void walk_map(const Planes<T>& planes, int x, int first, int last, const Use& use) {
  int64_t row = planes.row(first);
  FlowRow<T, kWidth, 1> above(planes, planes.row(first - 1), x), at(planes, row, x);
#pragma unroll 2
  for (int y = first; y < last; ++y) {
    if (y + 1 < planes.height) row += planes.row_stride;
    const FlowRow<T, kWidth, 1> below(planes, row, x);
    DeviceWide<T> values[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const DeviceWide<T> ux = slope_x(at.u, i), uy = slope_y(above.u, below.u, i);
      const DeviceWide<T> vx = slope_x(at.v, i), vy = slope_y(above.v, below.v, i);
      values[i] = root(ux * ux + uy * uy + vx * vx + vy * vy);
    }
    use(values);
    above = at;
    at = below;
  }
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kStripThreads) motion_map_forward_kernel(MotionMap args) {
  Strip strip;
  if (!take_strip<kWidth>(args.images, strip)) return;
  const Planes<T> planes(args.images, strip.n);
  T* map = static_cast<T*>(args.map) + (strip.n * args.images.height + strip.first) * planes.width + strip.x;
  walk_map<T, kWidth>(planes, strip.x, strip.first, strip.last, [&](DeviceWide<T>(&values)[kWidth]) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) values[i] /= 2;
    store_row<T, kWidth>(map, values);
    map += planes.width;
  });
}

// Sizes of the grid.
struct Grid {
  unsigned steps, rows, columns;

  __host__ __device__ explicit Grid(const MotionMap& args)
      : steps(static_cast<unsigned>(args.images.frames / args.block_frames)),
        rows(static_cast<unsigned>(args.images.height / args.block_rows)),
        columns(static_cast<unsigned>(args.images.width / args.block_columns)) {}
};

// A block of `cells` neighbouring cells of a row of the grid; its threads are (column groups, strips of all frames).
template <typename T, int kWidth>
__global__ void __launch_bounds__(kStripThreads, 4) motion_map_grid_kernel(MotionMap args, unsigned cells) {
  using Real = DeviceWide<T>;
  __shared__ Real sums[kStripThreads];
  const Grid grid(args);
  const unsigned blocks = (grid.columns + cells - 1) / cells;
  const unsigned first_cell = blockIdx.x % blocks * cells, cell_row = blockIdx.x / blocks;
  const unsigned row = cell_row % grid.rows, step = cell_row / grid.rows % grid.steps;
  const unsigned b = cell_row / grid.rows / grid.steps;
  const auto frames = static_cast<unsigned>(args.block_frames), rows = static_cast<unsigned>(args.block_rows);
  const unsigned first_frame = b * static_cast<unsigned>(args.images.frames) + step * frames;
  const auto cell_groups = static_cast<unsigned>(args.block_columns / kWidth);  // of kWidth columns, in a cell
  const unsigned count = min(cells, grid.columns - first_cell);
  const unsigned strips = (rows + kStripRows - 1) / kStripRows;

  Real sum = 0;
  for (unsigned item = threadIdx.y; item < frames * strips; item += blockDim.y) {
    const Planes<T> planes(args.images, first_frame + item / strips);
    const auto first = static_cast<int>(row * rows + item % strips * kStripRows);
    const int last = min(first + kStripRows, static_cast<int>((row + 1) * rows));
    for (unsigned group = threadIdx.x; group < count * cell_groups; group += blockDim.x) {
      const auto x = static_cast<int>((first_cell * cell_groups + group) * kWidth);
      Real strip_sum = 0;  // apart, so that the sum of a large cell is one of few terms
      walk_map<T, kWidth>(planes, x, first, last, [&](const Real(&values)[kWidth]) {
#pragma unroll
        for (int i = 0; i < kWidth; ++i) strip_sum += values[i];
      });
      sum += strip_sum;
    }
  }
  sums[threadIdx.y * blockDim.x + threadIdx.x] = sum;
  __syncthreads();  // the sums of all threads are there

  // A cell wider than the block is alone in it, and all threads' sums are its.
  const unsigned cell = threadIdx.y * blockDim.x + threadIdx.x, across = min(cell_groups, blockDim.x);
  if (cell >= count) return;
  Real total = 0;
  for (unsigned y = 0; y < blockDim.y; ++y) {
    for (unsigned i = 0; i < across; ++i) total += sums[y * blockDim.x + cell * across + i];
  }
  const Real size = static_cast<Real>(args.block_frames * args.block_rows * args.block_columns);
  static_cast<T*>(args.map)[int64_t{cell_row} * grid.columns + first_cell + cell] = device_narrow<T>(total / 2 / size);
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kStripThreads, 3) motion_map_backward_kernel(MotionMap args) {
  using Real = DeviceWide<T>;
  Strip strip;
  if (!take_strip<kWidth>(args.images, strip)) return;
  const Planes<T> planes(args.images, strip.n);
  const Grid grid(args);
  const auto frames = static_cast<unsigned>(args.images.frames),
             block_frames = static_cast<unsigned>(args.block_frames);
  const auto block_rows = static_cast<unsigned>(args.block_rows),
             block_columns = static_cast<unsigned>(args.block_columns);
  const unsigned step = strip.n / frames * grid.steps + strip.n % frames / block_frames;
  const T* grad_map = static_cast<const T*>(args.grad_map) + int64_t{step} * grid.rows * grid.columns;
  // Slopes are twice theirs, the map's root twice its; of the two halves that the adjoint needs one is left.
  const Real factor = Real{1} / (2 * static_cast<Real>(args.block_frames * args.block_rows * args.block_columns));
  unsigned cells[kWidth + 2];  // of columns x - 1 to x + kWidth
#pragma unroll
  for (int i = 0; i < kWidth + 2; ++i) {
    cells[i] = static_cast<unsigned>(mirrored(strip.x - 1 + i, planes.width)) / block_columns;
  }
  const int64_t plane = args.images.height * planes.width;
  T* grad_flow = static_cast<T*>(args.grad_flow) + 2 * strip.n * plane + int64_t{strip.first} * planes.width + strip.x;
  FlowRow<T, kWidth, 2> above(planes, planes.row(strip.first - 2), strip.x),
      at(planes, planes.row(strip.first - 1), strip.x);
  // The gradient of a pixel is P_x of the left minus that of the right, P_y of the row above minus that of the row
  // below.
  Real pending_u[kWidth], pending_v[kWidth], above_u[kWidth], above_v[kWidth];
  for (int y = strip.first - 1; y <= strip.last; ++y) {
    const T* grad = grad_map + int64_t{static_cast<unsigned>(mirrored(y, planes.height)) / block_rows} * grid.columns;
    Real gradients[kWidth + 2];
#pragma unroll
    for (int i = 0; i < kWidth + 2; ++i) gradients[i] = device_widen(__ldg(grad + cells[i]));
    const FlowRow<T, kWidth, 2> below(planes, planes.row(y + 1), strip.x);
    Real ux[kWidth + 2], uy[kWidth + 2], vx[kWidth + 2], vy[kWidth + 2];  // P of both channels and axes
#pragma unroll
    for (int i = 0; i < kWidth + 2; ++i) {
      const Real a = slope_x(at.u, i - 1), b = slope_y(above.u, below.u, i - 1);
      const Real c = slope_x(at.v, i - 1), d = slope_y(above.v, below.v, i - 1);
      const Real scale = inverse_root(a * a + b * b + c * c + d * d), gradient = gradients[i] * factor;
      ux[i] = rounded_product(a * scale, gradient);
      uy[i] = rounded_product(b * scale, gradient);
      vx[i] = rounded_product(c * scale, gradient);
      vy[i] = rounded_product(d * scale, gradient);
    }
    Real grad_u[kWidth], grad_v[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      grad_u[i] = pending_u[i] - uy[i + 1];
      grad_v[i] = pending_v[i] - vy[i + 1];
      pending_u[i] = (ux[i] - ux[i + 2]) + above_u[i];
      pending_v[i] = (vx[i] - vx[i + 2]) + above_v[i];
      above_u[i] = uy[i + 1];
      above_v[i] = vy[i + 1];
    }
    if (y > strip.first) {  // row y - 1 has all it needs
      store_row<T, kWidth>(grad_flow, grad_u);
      store_row<T, kWidth>(grad_flow + plane, grad_v);
      grad_flow += planes.width;
    }
    above = at;
    at = below;
  }
}

// As many cells as a block has threads for, and no fewer in its neighbours.
template <typename T, int kWidth>
cudaError_t launch_grid(const MotionMap& args, cudaStream_t stream) {
  const FlowImages& images = args.images;
  const int64_t columns = images.width / args.block_columns, groups = args.block_columns / kWidth;
  const int64_t most = std::clamp<int64_t>(kStripThreads / groups, 1, columns);
  const int64_t blocks = (columns + most - 1) / most, cells = (columns + blocks - 1) / blocks;
  const int64_t strips = (args.block_rows + kStripRows - 1) / kStripRows;
  const int64_t across = std::min<int64_t>(cells * groups, kStripThreads);
  const int64_t down = std::min<int64_t>(args.block_frames * strips, kStripThreads / across);
  const int64_t count = images.batch * (images.frames / args.block_frames) * (images.height / args.block_rows) * blocks;
  if (!indices_fit(images)) return cudaErrorInvalidConfiguration;
  return launch(&motion_map_grid_kernel<T, kWidth>, grid_of(count),
                dim3(static_cast<unsigned>(across), static_cast<unsigned>(down)), 0, stream, args,
                static_cast<unsigned>(cells));
}

template <typename T>
cudaError_t forward(const MotionMap& args, cudaStream_t stream) {
  if (args.has_grid()) {
    const auto fits = [&](int64_t width) {
      return args.block_columns % width == 0 && rows_are_aligned<T>(args.images, width, nullptr);
    };
    return with_width<T>(fits, [&]<int kWidth>() { return launch_grid<T, kWidth>(args, stream); });
  }
  const auto fits = [&](int64_t width) { return rows_are_aligned<T>(args.images, width, args.map); };
  return with_width<T>(fits, [&]<int kWidth>() {
    return launch_strips<kWidth>(&motion_map_forward_kernel<T, kWidth>, args.images, stream, args);
  });
}

template <typename T>
cudaError_t backward(const MotionMap& args, cudaStream_t stream) {
  const auto fits = [&](int64_t width) { return rows_are_aligned<T>(args.images, width, args.grad_flow); };
  return with_width<T>(fits, [&]<int kWidth>() {
    return launch_strips<kWidth>(&motion_map_backward_kernel<T, kWidth>, args.images, stream, args);
  });
}

}  // namespace

cudaError_t motion_map_forward_cuda(const MotionMap& args, cudaStream_t stream) {
  return for_device_dtype(args.images.dtype, [&]<typename T>() { return forward<T>(args, stream); });
}

cudaError_t motion_map_backward_cuda(const MotionMap& args, cudaStream_t stream) {
  return for_device_dtype(args.images.dtype, [&]<typename T>() { return backward<T>(args, stream); });
}

}  // namespace motionops
