// Forward: a thread keeps the Sobels' sums of two rows of magnitudes in registers and adds a row at each step, so a
// value is read from memory once; the columns beside its own and the rows around the strip come from the caches.
//
// Backward: the same walk, one row further on both sides and two columns. From three rows of sums come P and Q of one
// row, and what three rows of those give is the gradient of the magnitudes between them. Magnitudes and P, Q of the
// columns beside a thread's own are computed by its neighbours too: cheaper than handing them over.
#include <cmath>
#include <limits>

#include "core/device_types.h"
#include "core/root.h"
#include "core/rounded_product.h"
#include "flow/flow_edges.h"
#include "flow/flow_rows.cuh"

namespace motionops {
namespace {

// What the Sobels need of a row's magnitudes m, in a thread's columns and kHalo - 1 on either side.
template <typename T, int kWidth, int kHalo>
struct RowSums {
  static constexpr int kCount = kWidth + 2 * (kHalo - 1);
  DeviceWide<T> difference[kCount];  // m[x+1] - m[x-1]
  DeviceWide<T> smooth[kCount];      // m[x-1] + 2 m[x] + m[x+1]

  __device__ RowSums(const Planes<T>& planes, int64_t row, int x) {
    const Row<T, kWidth, kHalo> u(planes.u + row, x, planes.width), v(planes.v + row, x, planes.width);
    DeviceWide<T> m[kCount + 2];
#pragma unroll
    for (int i = 0; i < kCount + 2; ++i) m[i] = root(u.values[i] * u.values[i] + v.values[i] * v.values[i]);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      difference[i] = m[i + 2] - m[i];
      smooth[i] = (m[i] + m[i + 2]) + 2 * m[i + 1];
    }
  }
};

// The sums are of mirrored terms, so that beyond an edge they are, to the bit, those before it or minus those.
template <typename T, int kWidth, int kHalo>
__device__ DeviceWide<T> sobel_x(const RowSums<T, kWidth, kHalo>& above, const RowSums<T, kWidth, kHalo>& at,
                                 const RowSums<T, kWidth, kHalo>& below, int i) {
  return (above.difference[i] + below.difference[i]) + 2 * at.difference[i];
}
template <typename T, int kWidth, int kHalo>
__device__ DeviceWide<T> sobel_y(const RowSums<T, kWidth, kHalo>& above, const RowSums<T, kWidth, kHalo>& below,
                                 int i) {
  return below.smooth[i] - above.smooth[i];
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kStripThreads) flow_edges_forward_kernel(FlowEdges args) {
  using Real = DeviceWide<T>;
  Strip strip;
  if (!take_strip<kWidth>(args.images, strip)) return;
  const Planes<T> planes(args.images, strip.n);
  T* edges = static_cast<T*>(args.edges) + (strip.n * args.images.height + strip.first) * planes.width + strip.x;
  const auto max_value = static_cast<Real>(args.max_value);
  int64_t row = planes.row(strip.first);
  RowSums<T, kWidth, 1> above(planes, planes.row(strip.first - 1), strip.x), at(planes, row, strip.x);
#pragma unroll 2
  for (int y = strip.first; y < strip.last; ++y) {
    if (y + 1 < planes.height) row += planes.row_stride;
    const RowSums<T, kWidth, 1> below(planes, row, strip.x);
    Real result[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const Real gx = sobel_x(above, at, below, i), gy = sobel_y(above, below, i);
      const Real edge = root(gx * gx + gy * gy);
      result[i] = edge > max_value ? max_value : edge;
    }
    store_row<T, kWidth>(edges, result);
    edges += planes.width;
    above = at;
    at = below;
  }
}

// An edge is let through where its square is at most `largest_square`. Four blocks a multiprocessor: where it may
// choose, the compiler saves registers by spilling a few.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kStripThreads, 4)
    flow_edges_backward_kernel(FlowEdges args, DeviceWide<T> largest_square) {
  using Real = DeviceWide<T>;
  Strip strip;
  if (!take_strip<kWidth>(args.images, strip)) return;
  const Planes<T> planes(args.images, strip.n);
  const int64_t plane = args.images.height * planes.width;
  const T* grad_edges = static_cast<const T*>(args.grad_edges) + strip.n * plane;
  T* grad_flow = static_cast<T*>(args.grad_flow) + 2 * strip.n * plane + int64_t{strip.first} * planes.width + strip.x;
  RowSums<T, kWidth, 2> above(planes, planes.row(strip.first - 2), strip.x),
      at(planes, planes.row(strip.first - 1), strip.x);
  // Gradients of magnitudes are tx + ty of the row above, 2 tx of their own and tx - ty of the row below.
  Real ahead[kWidth], pending[kWidth];
  for (int y = strip.first - 1; y <= strip.last; ++y) {
    const RowSums<T, kWidth, 2> below(planes, planes.row(y + 1), strip.x);
    const Row<T, kWidth, 1> grad(grad_edges + int64_t{mirrored(y, planes.height)} * planes.width, strip.x,
                                 planes.width);
    const int64_t own = planes.row(y - 1) + strip.x;
    const auto us = load_pack<T, kWidth>(planes.u + own), vs = load_pack<T, kWidth>(planes.v + own);
    Real p[kWidth + 2], q[kWidth + 2];
#pragma unroll
    for (int i = 0; i < kWidth + 2; ++i) {
      const Real gx = sobel_x(above, at, below, i), gy = sobel_y(above, below, i);
      const Real square = gx * gx + gy * gy;
      const Real scale = inverse_root(square), passed = square > largest_square ? Real{0} : grad.values[i];
      p[i] = rounded_product(gx * scale, passed);
      q[i] = rounded_product(gy * scale, passed);
    }
    Real grad_u[kWidth], grad_v[kWidth];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const Real tx = p[i] - p[i + 2], ty = (q[i] + q[i + 2]) + 2 * q[i + 1];
      const Real a = device_widen(us.values[i]), b = device_widen(vs.values[i]);
      const Real scale = inverse_root(a * a + b * b), grad_magnitude = pending[i] + (tx - ty);
      grad_u[i] = a * scale * grad_magnitude;
      grad_v[i] = b * scale * grad_magnitude;
      pending[i] = ahead[i] + 2 * tx;
      ahead[i] = tx + ty;
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

// The largest value whose root is at most max_value.
template <typename Real>
Real largest_square(Real max_value) {
  constexpr Real kInfinity = std::numeric_limits<Real>::infinity();
  Real square = max_value * max_value;
  while (std::sqrt(square) > max_value) square = std::nextafter(square, Real{0});
  while (square < kInfinity && std::sqrt(std::nextafter(square, kInfinity)) <= max_value) {
    square = std::nextafter(square, kInfinity);
  }
  return square;
}

template <typename T>
cudaError_t forward(const FlowEdges& args, cudaStream_t stream) {
  const auto fits = [&](int64_t width) { return rows_are_aligned<T>(args.images, width, args.edges); };
  return with_width<T>(fits, [&]<int kWidth>() {
    return launch_strips<kWidth>(&flow_edges_forward_kernel<T, kWidth>, args.images, stream, args);
  });
}

template <typename T>
cudaError_t backward(const FlowEdges& args, cudaStream_t stream) {
  const auto limit = largest_square(static_cast<DeviceWide<T>>(args.max_value));
  const auto fits = [&](int64_t width) {
    return rows_are_aligned<T>(args.images, width, args.grad_flow) &&
           rows_are_aligned<T>(args.images, width, args.grad_edges);
  };
  return with_width<T>(fits, [&]<int kWidth>() {
    return launch_strips<kWidth>(&flow_edges_backward_kernel<T, kWidth>, args.images, stream, args, limit);
  });
}

}  // namespace

cudaError_t flow_edges_forward_cuda(const FlowEdges& args, cudaStream_t stream) {
  return for_device_dtype(args.images.dtype, [&]<typename T>() { return forward<T>(args, stream); });
}

cudaError_t flow_edges_backward_cuda(const FlowEdges& args, cudaStream_t stream) {
  return for_device_dtype(args.images.dtype, [&]<typename T>() { return backward<T>(args, stream); });
}

}  // namespace motionops
