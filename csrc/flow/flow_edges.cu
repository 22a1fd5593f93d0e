// Forward: a thread owns four neighbouring columns (one where alignment does not allow more) of a strip of rows and walks
// down it. Of the rows above it keeps two sums of magnitudes each in registers, so a value is read from memory once; the two
// columns beside its own, which its neighbours read too, and the two rows around the strip come from the caches.
//
// Backward: a block owns a tile of pixels. The magnitudes of the tile and two pixels around it, then the gradients of the
// Sobels' results with one pixel around it, go through shared memory.
#include "core/device_types.h"
#include "core/launch.h"
#include "flow/flow_edges.h"
#include "flow/flow_rows.cuh"

namespace motionops {
namespace {

constexpr int kThreads = 128;
constexpr int kStripRows = 16;

template <typename T>
__device__ DeviceWide<T> magnitude(T u, T v) {
  const DeviceWide<T> a = device_widen(u), b = device_widen(v);
  return sqrt(a * a + b * b);
}

// Sums over three neighbours of a row's magnitudes m, for each of a thread's columns.
template <typename T, int kWidth>
struct RowSums {
  DeviceWide<T> difference[kWidth];  // m[x+1] - m[x-1]
  DeviceWide<T> smooth[kWidth];      // m[x-1] + 2 m[x] + m[x+1]
};

template <typename T, int kWidth>
__device__ RowSums<T, kWidth> row_sums(const T* u, const T* v, int64_t x, int64_t width) {
  const auto us = *reinterpret_cast<const Pack<T, kWidth>*>(u + x);
  const auto vs = *reinterpret_cast<const Pack<T, kWidth>*>(v + x);
  DeviceWide<T> m[kWidth + 2];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) m[i + 1] = magnitude(us.values[i], vs.values[i]);
  m[0] = x > 0 ? magnitude(u[x - 1], v[x - 1]) : m[1];
  m[kWidth + 1] = x + kWidth < width ? magnitude(u[x + kWidth], v[x + kWidth]) : m[kWidth];
  RowSums<T, kWidth> sums;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    sums.difference[i] = m[i + 2] - m[i];
    sums.smooth[i] = m[i] + 2 * m[i + 1] + m[i + 2];
  }
  return sums;
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads) flow_edges_forward_kernel(FlowEdges args) {
  const FlowImages& images = args.images;
  const int64_t groups = images.width / kWidth, strips = (images.height + kStripRows - 1) / kStripRows;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= image_count(images) * strips * groups) return;
  const int64_t x = index % groups * kWidth, first = index / groups % strips * kStripRows;
  const int64_t n = index / groups / strips;
  const int64_t last = first + kStripRows < images.height ? first + kStripRows : images.height;
  const T* u = static_cast<const T*>(images.flow) + image_offset(images, n);
  const T* v = u + images.channel_stride;
  T* edges = static_cast<T*>(args.edges) + n * images.height * images.width + x;
  const auto max_value = static_cast<DeviceWide<T>>(args.max_value);
  const auto sums = [&](int64_t y) {
    const int64_t row = (y < 0 ? 0 : y < images.height ? y : images.height - 1) * images.row_stride;
    return row_sums<T, kWidth>(u + row, v + row, x, images.width);
  };
  auto above = sums(first - 1);
  auto at = sums(first);
#pragma unroll 2
  for (int64_t y = first; y < last; ++y) {
    const auto below = sums(y + 1);
    Pack<T, kWidth> result;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const DeviceWide<T> gx = above.difference[i] + 2 * at.difference[i] + below.difference[i];
      const DeviceWide<T> gy = below.smooth[i] - above.smooth[i];
      const DeviceWide<T> edge = sqrt(gx * gx + gy * gy);
      result.values[i] = device_narrow<T>(edge > max_value ? max_value : edge);
    }
    *reinterpret_cast<Pack<T, kWidth>*>(edges + y * images.width) = result;
    above = at;
    at = below;
  }
}

constexpr int kTileWidth = 32, kTileHeight = 8;

template <typename T>
__global__ void __launch_bounds__(kTileWidth* kTileHeight) flow_edges_backward_kernel(FlowEdges args) {
  using Real = DeviceWide<T>;
  __shared__ Real magnitudes[kTileHeight + 4][kTileWidth + 4];  // from (top - 2, left - 2)
  __shared__ Real p[kTileHeight + 2][kTileWidth + 2];           // from (top - 1, left - 1)
  __shared__ Real q[kTileHeight + 2][kTileWidth + 2];
  const FlowImages& images = args.images;
  const int64_t height = images.height, width = images.width;
  const int64_t across = (width + kTileWidth - 1) / kTileWidth, down = (height + kTileHeight - 1) / kTileHeight;
  const int64_t left = blockIdx.x % across * kTileWidth, top = blockIdx.x / across % down * kTileHeight;
  const int64_t n = blockIdx.x / across / down;
  const T* u = static_cast<const T*>(images.flow) + image_offset(images, n);
  const T* v = u + images.channel_stride;
  const T* grad = static_cast<const T*>(args.grad_edges) + n * height * width;
  const auto inside = [](int64_t i, int64_t size) { return i < 0 ? 0 : i < size ? i : size - 1; };
  const int thread = threadIdx.x;
  constexpr int kTileThreads = kTileWidth * kTileHeight;

  for (int i = thread; i < (kTileHeight + 4) * (kTileWidth + 4); i += kTileThreads) {
    const int row = i / (kTileWidth + 4), column = i % (kTileWidth + 4);
    const int64_t from = inside(top - 2 + row, height) * images.row_stride + inside(left - 2 + column, width);
    magnitudes[row][column] = magnitude(u[from], v[from]);
  }
  __syncthreads();  // every thread reads magnitudes of others

  // Beyond the edges P is antisymmetric in x and symmetric in y, Q the other way round.
  const auto max_value = static_cast<Real>(args.max_value);
  for (int i = thread; i < (kTileHeight + 2) * (kTileWidth + 2); i += kTileThreads) {
    const int row = i / (kTileWidth + 2), column = i % (kTileWidth + 2);
    const int64_t y = top - 1 + row, x = left - 1 + column;
    const int64_t y_inside = inside(y, height), x_inside = inside(x, width);
    // Two and more pixels beyond the edge nobody reads; the magnitudes there are not those of y_inside, x_inside.
    const bool read = y <= height && x <= width;
    const int r = static_cast<int>(y_inside - top) + 2, c = static_cast<int>(x_inside - left) + 2;
    Real gx = 0, gy = 0, through = 0;
    if (read) {
      gx = (magnitudes[r - 1][c + 1] - magnitudes[r - 1][c - 1]) + 2 * (magnitudes[r][c + 1] - magnitudes[r][c - 1]) +
           (magnitudes[r + 1][c + 1] - magnitudes[r + 1][c - 1]);
      gy = (magnitudes[r + 1][c - 1] - magnitudes[r - 1][c - 1]) + 2 * (magnitudes[r + 1][c] - magnitudes[r - 1][c]) +
           (magnitudes[r + 1][c + 1] - magnitudes[r - 1][c + 1]);
      const Real edge = sqrt(gx * gx + gy * gy);
      if (edge > 0 && edge <= max_value) through = device_widen(grad[y_inside * width + x_inside]) / edge;
    }
    p[row][column] = through * (x == x_inside ? gx : -gx);
    q[row][column] = through * (y == y_inside ? gy : -gy);
  }
  __syncthreads();  // every thread reads P and Q of others

  const int row = thread / kTileWidth, column = thread % kTileWidth;
  const int64_t y = top + row, x = left + column;
  if (y >= height || x >= width) return;
  const auto tx = [&](int r) { return p[r][column] - p[r][column + 2]; };
  const auto ty = [&](int r) { return q[r][column] + 2 * q[r][column + 1] + q[r][column + 2]; };
  const Real magnitude_grad = tx(row) + 2 * tx(row + 1) + tx(row + 2) + ty(row) - ty(row + 2);
  const Real m = magnitudes[row + 2][column + 2];
  const Real through = m > 0 ? magnitude_grad / m : Real{0};
  const int64_t from = y * images.row_stride + x, to = (2 * n * height + y) * width + x;
  T* grad_flow = static_cast<T*>(args.grad_flow);
  grad_flow[to] = device_narrow<T>(through * device_widen(u[from]));
  grad_flow[to + height * width] = device_narrow<T>(through * device_widen(v[from]));
}

template <typename T, int kWidth>
cudaError_t start_forward(const FlowEdges& args, cudaStream_t stream) {
  const int64_t strips = (args.images.height + kStripRows - 1) / kStripRows;
  const int64_t threads = image_count(args.images) * strips * (args.images.width / kWidth);
  const auto blocks = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  return launch(&flow_edges_forward_kernel<T, kWidth>, dim3(blocks), dim3(kThreads), 0, stream, args);
}

template <typename T>
cudaError_t forward(const FlowEdges& args, cudaStream_t stream) {
  return rows_are_aligned<T>(args.images, kWidthOf<T>, args.edges) ? start_forward<T, kWidthOf<T>>(args, stream)
                                                                   : start_forward<T, 1>(args, stream);
}

template <typename T>
cudaError_t backward(const FlowEdges& args, cudaStream_t stream) {
  const int64_t across = (args.images.width + kTileWidth - 1) / kTileWidth;
  const int64_t down = (args.images.height + kTileHeight - 1) / kTileHeight;
  return launch(&flow_edges_backward_kernel<T>, dim3(static_cast<unsigned>(image_count(args.images) * across * down)),
                dim3(kTileWidth * kTileHeight), 0, stream, args);
}

}  // namespace

cudaError_t flow_edges_forward_cuda(const FlowEdges& args, cudaStream_t stream) {
  return for_device_dtype(args.images.dtype, [&]<typename T>() { return forward<T>(args, stream); });
}

cudaError_t flow_edges_backward_cuda(const FlowEdges& args, cudaStream_t stream) {
  return for_device_dtype(args.images.dtype, [&]<typename T>() { return backward<T>(args, stream); });
}

}  // namespace motionops
