// Per scale a resize of the images and the flow; per warp a median, a linearisation, and the iterations in groups of
// kFused: a block takes a region of kRegionX x kRegionY pixels into registers, runs kFused iterations there, and writes the
// inner part that its edges, which lack neighbours, did not reach: one pixel less on every side per iteration. A warp has a
// strip of kRows rows, a thread kColumns neighbouring columns of it: neighbours are the thread's own registers, those of the
// next lane, or, at the border of two strips, in shared memory. The state is read from one copy and written to another, as
// neighbours' regions overlap. Bytes of a pixel per group: 10 read (times the overlap, 1.7) and 6 written, times 4.
// Blocks are numbered through all pairs, and each is in one plane: within it offsets have 32 bits. Nothing is allocated and
// nothing is waited for.
#include <algorithm>
#include <utility>

#include "core/launch.h"
#include "core/root.h"
#include "core/warp.h"
#include "core/workspace.h"
#include "flow/tvl1_flow.h"

namespace motionops {
namespace {

using tvl1::Level;

constexpr int kThreads = 256, kLanes = 32, kStrips = kThreads / kLanes;
constexpr int kRows = 4, kColumns = 2;  // of a thread
constexpr int kRegionX = kLanes * kColumns, kRegionY = kStrips * kRows, kFused = 5;
constexpr int kInnerX = kRegionX - 2 * kFused, kInnerY = kRegionY - 2 * kFused;
constexpr int64_t kMostPixels = int64_t{1} << 31;  // of an image: beyond them the workspace would have 137 GB

// What a pixel has of four values, as one access.
template <typename Real>
struct alignas(16) Four {
  Real values[4];
};

// The planes of one size, and the blocks that make a pixel with each thread.
struct Grid {
  int64_t planes;
  int height, width;
  __host__ __device__ int64_t pixels() const { return int64_t{height} * width; }
  __host__ __device__ int blocks_of_plane() const { return static_cast<int>((pixels() + kThreads - 1) / kThreads); }
  int64_t blocks() const { return planes * blocks_of_plane(); }
};

struct Pixel {
  int64_t first;  // of its plane
  int index, x, y;
};

// This thread's, where it has one.
__device__ bool own_pixel(const Grid& grid, Pixel& pixel) {
  const int blocks = grid.blocks_of_plane(), plane = static_cast<int>(blockIdx.x) / blocks;
  const unsigned index = (blockIdx.x - static_cast<unsigned>(plane * blocks)) * kThreads + threadIdx.x;
  if (index >= grid.pixels()) return false;
  const unsigned y = index / static_cast<unsigned>(grid.width);
  pixel = {plane * grid.pixels(), static_cast<int>(index),
           static_cast<int>(index - y * static_cast<unsigned>(grid.width)), static_cast<int>(y)};
  return true;
}

__device__ int clamp_index(int i, int size) { return i < 0 ? 0 : i >= size ? size - 1 : i; }

// Where an output pixel lies between two of the input's.
struct Place {
  int low, high;
  double weight;
};

__device__ Place place_of(int i, double ratio, int size) {
  double place = (static_cast<double>(i) + 0.5) * ratio - 0.5;
  place = place > 0 ? place : 0;
  place = place < static_cast<double>(size - 1) ? place : static_cast<double>(size - 1);
  const int low = static_cast<int>(place);
  return {low, clamp_index(low + 1, size), place - static_cast<double>(low)};
}

// A thread makes one pixel of one plane.
template <typename Real>
__global__ void __launch_bounds__(kThreads) resize_kernel(const Real* from, Grid from_grid, Real* to, Grid to_grid,
                                                          double ratio_y, double ratio_x, Real factor) {
  Pixel own;
  if (!own_pixel(to_grid, own)) return;
  const Place row = place_of(own.y, ratio_y, from_grid.height), column = place_of(own.x, ratio_x, from_grid.width);
  const Real* source = from + own.first / to_grid.pixels() * from_grid.pixels();
  const auto down = [&](int at) {
    const Real a = source[row.low * from_grid.width + at], b = source[row.high * from_grid.width + at];
    return a + static_cast<Real>(row.weight) * (b - a);
  };
  const Real a = down(column.low), b = down(column.high);
  to[own.first + own.index] = factor * (a + static_cast<Real>(column.weight) * (b - a));
}

template <typename Real>
__global__ void __launch_bounds__(kThreads) zero_kernel(Real* values, int64_t count) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index < count) values[index] = 0;
}

// The median by forgetting: of any kCount / 2 + 2 values neither the smallest nor the largest is the median, so they are
// dropped and the next value comes in.
template <typename Real, int kSide>
__global__ void __launch_bounds__(kThreads, 1) median_kernel(const Real* from, Real* to, Grid planes) {
  constexpr int kCount = kSide * kSide, kKept = kCount / 2 + 2, kEdge = kSide / 2;
  Pixel own;
  if (!own_pixel(planes, own)) return;
  const Real* plane = from + own.first;
  const auto load = [&](int i) {
    return plane[clamp_index(own.y + i / kSide - kEdge, planes.height) * planes.width +
                 clamp_index(own.x + i % kSide - kEdge, planes.width)];
  };
  const auto exchange = [](Real& low, Real& high) {
    const Real a = low, b = high;
    low = a < b ? a : b;
    high = a < b ? b : a;
  };
  Real kept[kKept];
#pragma unroll
  for (int i = 0; i < kKept; ++i) kept[i] = load(i);
#pragma unroll
  for (int size = kKept; size >= 3; --size) {
#pragma unroll
    for (int i = 0; i < size / 2; ++i) exchange(kept[i], kept[size - 1 - i]);
#pragma unroll
    for (int i = 1; i < (size + 1) / 2; ++i) exchange(kept[0], kept[i]);
#pragma unroll
    for (int i = size / 2; i < size - 1; ++i) exchange(kept[i], kept[size - 1]);
    if (size > 3) kept[0] = load(kCount - (size - 3));
  }
  to[own.first + own.index] = kept[1];
}

// Catmull-Rom: the weights of the pixels at -1, 0, 1, 2.
template <typename Real>
__device__ void cubic_weights(Real t, Real* weights) {
  weights[0] = ((Real(-0.5) * t + 1) * t - Real(0.5)) * t;
  weights[1] = (Real(1.5) * t - Real(2.5)) * t * t + 1;
  weights[2] = ((Real(-1.5) * t + 2) * t + Real(0.5)) * t;
  weights[3] = (Real(0.5) * t - Real(0.5)) * t * t;
}

// A thread samples the second image and its central gradient for one pixel. data [N, H, W]: the gradient (x, y), the constant
// part of rho, and the gradient's inverse square.
template <typename Real>
__global__ void __launch_bounds__(kThreads)
    linearise_kernel(const Real* first, const Real* second, const Real* flow, Four<Real>* data, Grid grid) {
  Pixel own;
  if (!own_pixel(grid, own)) return;
  const int64_t pixels = grid.pixels();
  const Real u = flow[2 * own.first + own.index], v = flow[2 * own.first + pixels + own.index];
  const Real x = static_cast<Real>(own.x) + u, y = static_cast<Real>(own.y) + v;
  Real value = 0, gx = 0, gy = 0, constant = 0;
  if (x >= 0 && x <= static_cast<Real>(grid.width - 1) && y >= 0 && y <= static_cast<Real>(grid.height - 1)) {
    const int left = static_cast<int>(x), top = static_cast<int>(y);
    Real wx[4], wy[4];
    cubic_weights(x - static_cast<Real>(left), wx);
    cubic_weights(y - static_cast<Real>(top), wy);
    const Real* image = second + own.first;
    for (int i = 0; i < 4; ++i) {
      const int row = clamp_index(top + i - 1, grid.height);
      const Real* here = image + row * grid.width;
      const Real* above = image + clamp_index(row - 1, grid.height) * grid.width;
      const Real* below = image + clamp_index(row + 1, grid.height) * grid.width;
      Real line = 0, line_x = 0, line_y = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int at = clamp_index(left + j - 1, grid.width);
        line += wx[j] * here[at];
        line_x += wx[j] * ((here[clamp_index(at + 1, grid.width)] - here[clamp_index(at - 1, grid.width)]) / 2);
        line_y += wx[j] * ((below[at] - above[at]) / 2);
      }
      const Real weight = i == 0 ? wy[0] : i == 1 ? wy[1] : i == 2 ? wy[2] : wy[3];
      value += weight * line;
      gx += weight * line_x;
      gy += weight * line_y;
    }
    constant = value - gx * u - gy * v - first[own.first + own.index];
  }
  const Real square = gx * gx + gy * gy;
  const Real inverse = square > Real(tvl1::kFlatGradient) ? reciprocal_of_normal(square) : Real{0};
  data[own.first + own.index] = {gx, gy, constant, inverse};
}

template <typename Real>
struct Iterations {
  const Four<Real>* data;  // [N, H, W]
  const Real* flow;        // [N, 2, H, W]
  const Four<Real>* dual;  // [N, H, W]: those of u (x, y) and of v (x, y)
  Real* new_flow;          // the same, other memory
  Four<Real>* new_dual;
  Grid grid;
  int tiles_x, tiles_y;
  int count;   // at most kFused
  bool start;  // the dual variables are 0 and are not read
  Real limit, tightness, k;
};

template <typename Real>
using Cells = Real[kRows][kColumns];  // of a thread

// A row of a thread, as one access to shared memory.
template <typename Real>
struct alignas(kColumns * sizeof(Real)) Row {
  Real values[kColumns];
};

template <typename Real>
__device__ Row<Real> row_of(const Cells<Real>& cells, int row) {
  Row<Real> result;
#pragma unroll
  for (int c = 0; c < kColumns; ++c) result.values[c] = cells[row][c];
  return result;
}

// What a strip shows the strips beside it: the flow of its first row and the vertical dual variables of its last.
template <typename Real>
struct Shown {
  Row<Real> u[kStrips][kLanes], v[kStrips][kLanes], uy[kStrips][kLanes], vy[kStrips][kLanes];
};

// flow += l + tightness div p, with the strip's dual variables (px, py) and the vertical ones above it.
template <typename Real>
__device__ void add_divergence(Cells<Real>& flow, const Cells<Real>& px, const Cells<Real>& py, const Row<Real>& above,
                               const Cells<Real>& step, Real tightness) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const Real before = __shfl_up_sync(kAllLanes, px[r][kColumns - 1], 1);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const Real left = c == 0 ? before : px[r][c - 1], over = r == 0 ? above.values[c] : py[r - 1][c];
      flow[r][c] += step[r][c] + tightness * ((px[r][c] - left) + (py[r][c] - over));
    }
  }
}

// p <- (p + k grad flow) / (1 + k |grad flow|), with the flow below the strip. kx is k, or 0 where a column has no
// neighbour in the image; ky of the rows.
template <typename Real>
__device__ void move_duals(Cells<Real>& px, Cells<Real>& py, const Cells<Real>& flow, const Row<Real>& below,
                           const Real (&kx)[kColumns], const Real (&ky)[kRows]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const Real after = __shfl_down_sync(kAllLanes, flow[r][0], 1);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const Real right = c + 1 == kColumns ? after : flow[r][c + 1];
      const Real under = r + 1 == kRows ? below.values[c] : flow[r + 1][c];
      const Real dx = kx[c] * (right - flow[r][c]), dy = ky[r] * (under - flow[r][c]);
      const Real scale = reciprocal_of_normal(Real(1) + root_of_normal(dx * dx + dy * dy));
      px[r][c] = (px[r][c] + dx) * scale;
      py[r][c] = (py[r][c] + dy) * scale;
    }
  }
}

// Outside the image flow and dual variables stay 0, as the divergence wants it. What lies outside the region is unknown,
// and any number serves for it.
template <typename Real>
__global__ void __launch_bounds__(kThreads, sizeof(Real) == 4 ? 2 : 1) iterate_kernel(Iterations<Real> args) {
  auto& shown = *reinterpret_cast<Shown<Real>*>(dynamic_shared_memory());
  const int lane = static_cast<int>(threadIdx.x) % kLanes, strip = static_cast<int>(threadIdx.x) / kLanes;
  const int tiles = args.tiles_x * args.tiles_y, tile = static_cast<int>(blockIdx.x) % tiles;
  const int x_begin = tile % args.tiles_x * kInnerX - kFused, y_begin = tile / args.tiles_x * kInnerY - kFused;
  const int x_own = x_begin + lane * kColumns, y_own = y_begin + strip * kRows;
  const int height = args.grid.height, width = args.grid.width;
  const int64_t pixels = args.grid.pixels(), pair = static_cast<int>(blockIdx.x) / tiles;
  const Four<Real>*data = args.data + pair * pixels, *dual = args.dual + pair * pixels;
  const Real *flow_u = args.flow + 2 * pair * pixels, *flow_v = flow_u + pixels;
  Cells<Real> u, v, ux, uy, vx, vy, gx, gy, constant, inverse;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int x = x_own + c, y = y_own + r;
      const bool inside = x >= 0 && x < width && y >= 0 && y < height;
      const auto offset = static_cast<unsigned>(y * width + x);
      const Four<Real> term = inside ? data[offset] : Four<Real>{},
                       p = inside && !args.start ? dual[offset] : Four<Real>{};
      gx[r][c] = term.values[0], gy[r][c] = term.values[1];
      constant[r][c] = term.values[2], inverse[r][c] = term.values[3];
      ux[r][c] = p.values[0], uy[r][c] = p.values[1], vx[r][c] = p.values[2], vy[r][c] = p.values[3];
      u[r][c] = inside ? flow_u[offset] : Real{0};
      v[r][c] = inside ? flow_v[offset] : Real{0};
    }
  }
  Real kx[kColumns], ky[kRows];
#pragma unroll
  for (int c = 0; c < kColumns; ++c) kx[c] = x_own + c >= 0 && x_own + c + 1 < width ? args.k : Real{0};
#pragma unroll
  for (int r = 0; r < kRows; ++r) ky[r] = y_own + r >= 0 && y_own + r + 1 < height ? args.k : Real{0};
  for (int iteration = 0; iteration < args.count; ++iteration) {
    shown.uy[strip][lane] = row_of(uy, kRows - 1);
    shown.vy[strip][lane] = row_of(vy, kRows - 1);
    __syncthreads();
    const int above = strip > 0 ? strip - 1 : strip;
    Cells<Real> step_x, step_y;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        Real step = -(constant[r][c] + gx[r][c] * u[r][c] + gy[r][c] * v[r][c]) * inverse[r][c];
        step = fmax(fmin(step, args.limit), -args.limit);
        step_x[r][c] = step * gx[r][c];
        step_y[r][c] = step * gy[r][c];
      }
    }
    add_divergence(u, ux, uy, shown.uy[above][lane], step_x, args.tightness);
    add_divergence(v, vx, vy, shown.vy[above][lane], step_y, args.tightness);
    shown.u[strip][lane] = row_of(u, 0);
    shown.v[strip][lane] = row_of(v, 0);
    __syncthreads();
    const int below = strip + 1 < kStrips ? strip + 1 : strip;
    move_duals(ux, uy, u, shown.u[below][lane], kx, ky);
    move_duals(vx, vy, v, shown.v[below][lane], kx, ky);
  }
  Real *new_u = args.new_flow + 2 * pair * pixels, *new_v = new_u + pixels;
  Four<Real>* new_dual = args.new_dual + pair * pixels;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int x = x_own + c, y = y_own + r, column = x - x_begin - kFused, row = y - y_begin - kFused;
      if (column < 0 || column >= kInnerX || row < 0 || row >= kInnerY || x >= width || y >= height) continue;
      const auto offset = static_cast<unsigned>(y * width + x);
      new_u[offset] = u[r][c];
      new_v[offset] = v[r][c];
      new_dual[offset] = {ux[r][c], uy[r][c], vx[r][c], vy[r][c]};
    }
  }
}

template <typename Real>
struct Memory {
  std::vector<Real*> firsts, seconds;  // of the levels below the images themselves
  Real* flow[2];
  Four<Real>*dual[2], *data;

  Memory(Workspace& workspace, const Tvl1Flow& args) {
    const std::vector<Level> levels = tvl1::pyramid(args);
    for (size_t i = 1; i < levels.size(); ++i) {
      firsts.push_back(workspace.take<Real>(args.pairs * levels[i].pixels()));
      seconds.push_back(workspace.take<Real>(args.pairs * levels[i].pixels()));
    }
    const int64_t plane = args.pairs * levels.front().pixels();
    for (Real*& place : flow) place = workspace.take<Real>(2 * plane);
    for (Four<Real>*& place : dual) place = workspace.take<Four<Real>>(plane);
    data = workspace.take<Four<Real>>(plane);
  }
};

template <typename Real>
class Run {
 public:
  Run(const Tvl1Flow& args, void* workspace, cudaStream_t stream)
      : args_(args), stream_(stream), levels_(tvl1::pyramid(args)), space_(workspace), memory_(space_, args) {}

  cudaError_t solve() {
    std::vector<const Real*> firsts{static_cast<const Real*>(args_.previous)};
    std::vector<const Real*> seconds{static_cast<const Real*>(args_.following)};
    const double ratio = 1 / args_.scale_step;
    for (size_t i = 1; i < levels_.size(); ++i) {
      for (const auto& [sources, places] : {std::pair{&firsts, &memory_.firsts}, {&seconds, &memory_.seconds}}) {
        Real* to = (*places)[i - 1];
        resize(sources->back(), levels_[i - 1], to, levels_[i], 1, ratio, ratio, Real{1});
        sources->push_back(to);
      }
    }
    const int64_t coarsest = 2 * args_.pairs * levels_.back().pixels();
    start(&zero_kernel<Real>, (coarsest + kThreads - 1) / kThreads, 0, memory_.flow[0], coarsest);
    for (size_t i = levels_.size(); i-- > 0;) {
      const Level level = levels_[i];
      if (i + 1 < levels_.size()) {
        const Level coarse = levels_[i + 1];
        resize(memory_.flow[now_], coarse, memory_.flow[1 - now_], level, 2,
               static_cast<double>(coarse.height) / static_cast<double>(level.height),
               static_cast<double>(coarse.width) / static_cast<double>(level.width), static_cast<Real>(ratio));
        now_ = 1 - now_;
      }
      solve_scale(firsts[i], seconds[i], level);
    }
    // at a ratio of 1 a copy
    resize(memory_.flow[now_], levels_.front(), static_cast<Real*>(args_.flow), levels_.front(), 2, 1, 1, Real{1});
    return error_;
  }

 private:
  Grid grid(Level level, int64_t planes) const {
    return {args_.pairs * planes, static_cast<int>(level.height), static_cast<int>(level.width)};
  }

  template <typename... Parameters>
  void start(void (*kernel)(Parameters...), int64_t blocks, size_t shared_bytes,
             std::type_identity_t<Parameters>... arguments) {
    if (error_ != cudaSuccess) return;
    error_ = launch(kernel, grid_of(blocks), dim3(kThreads), shared_bytes, stream_, arguments...);
  }

  void resize(const Real* from, Level from_level, Real* to, Level to_level, int64_t planes, double ratio_y,
              double ratio_x, Real factor) {
    const Grid to_grid = grid(to_level, planes);
    start(&resize_kernel<Real>, to_grid.blocks(), 0, from, grid(from_level, planes), to, to_grid, ratio_y, ratio_x,
          factor);
  }

  void solve_scale(const Real* first, const Real* second, Level level) {
    const Grid pairs = grid(level, 1), planes = grid(level, 2);
    bool fresh = true;  // the dual variables are still 0
    for (int64_t warp = 0; warp < args_.warps; ++warp) {
      if (args_.median > 1) {
        start(args_.median == 5 ? &median_kernel<Real, 5> : &median_kernel<Real, 3>, planes.blocks(), 0,
              memory_.flow[now_], memory_.flow[1 - now_], planes);
        now_ = 1 - now_;
      }
      start(&linearise_kernel<Real>, pairs.blocks(), 0, first, second, memory_.flow[now_], memory_.data, pairs);
      for (int64_t done = 0; done < args_.iterations; done += kFused) {
        Iterations<Real> step{};
        step.data = memory_.data;
        step.flow = memory_.flow[now_];
        step.new_flow = memory_.flow[1 - now_];
        step.dual = memory_.dual[dual_];
        step.new_dual = memory_.dual[1 - dual_];
        step.grid = pairs;
        step.tiles_x = (pairs.width + kInnerX - 1) / kInnerX;
        step.tiles_y = (pairs.height + kInnerY - 1) / kInnerY;
        step.count = static_cast<int>(std::min<int64_t>(kFused, args_.iterations - done));
        step.start = fresh;
        step.limit = static_cast<Real>(args_.smoothness * args_.tightness);
        step.tightness = static_cast<Real>(args_.tightness);
        step.k = static_cast<Real>(args_.tau / args_.tightness);
        start(&iterate_kernel<Real>, int64_t{step.tiles_x} * step.tiles_y * args_.pairs, sizeof(Shown<Real>), step);
        fresh = false;
        now_ = 1 - now_;
        dual_ = 1 - dual_;
      }
    }
  }

  const Tvl1Flow& args_;
  cudaStream_t stream_;
  std::vector<Level> levels_;
  Workspace space_;
  Memory<Real> memory_;
  int now_ = 0, dual_ = 0;  // which copy holds the state
  cudaError_t error_ = cudaSuccess;
};

template <typename Real>
size_t bytes(const Tvl1Flow& args) {
  Workspace counted(nullptr);
  const Memory<Real> memory(counted, args);
  return counted.bytes();
}

}  // namespace

size_t tvl1_flow_workspace_bytes(const Tvl1Flow& args) {
  return args.dtype == Dtype::kFloat64 ? bytes<double>(args) : bytes<float>(args);
}

cudaError_t tvl1_flow_forward_cuda(const Tvl1Flow& args, void* workspace, cudaStream_t stream) {
  if (args.pairs * args.height * args.width == 0) return cudaSuccess;
  if (args.height * args.width >= kMostPixels) return cudaErrorInvalidValue;
  return args.dtype == Dtype::kFloat64 ? Run<double>(args, workspace, stream).solve()
                                       : Run<float>(args, workspace, stream).solve();
}

}  // namespace motionops
