// Per scale a resize of the images and the flow; per warp a median, a linearisation, and the iterations in groups of
// kFused: a block takes a region of kRegionX x kRegionY pixels into shared memory (flow and dual variables) and registers
// (data term), runs kFused iterations there, and writes the inner part that its edges, which lack neighbours, did not
// reach: one pixel less on every side per iteration. The state is read from one copy and written to another, as
// neighbours' regions overlap. Bytes of a pixel per group: 9 read (times the overlap, 1.9) and 6 written, times 4.
// Blocks are numbered through all pairs; nothing is allocated and nothing is waited for.
#include <algorithm>
#include <utility>

#include "core/launch.h"
#include "core/workspace.h"
#include "flow/tvl1_flow.h"

namespace motionops {
namespace {

using tvl1::Level;

constexpr int kThreads = 256;
constexpr int kRegionX = 64, kRegionY = 32, kFused = 5;
constexpr int kInnerX = kRegionX - 2 * kFused, kInnerY = kRegionY - 2 * kFused;
constexpr int kRegion = kRegionX * kRegionY, kOwned = kRegion / kThreads;
constexpr int kState = 6;     // u, v, and the dual variables (x, y) of u and of v
constexpr int kDataTerm = 3;  // gradient (x, y) and the constant part of rho

struct Grid {
  int64_t pairs, height, width;
  __host__ __device__ int64_t pixels() const { return height * width; }
};

__device__ int64_t thread_index() { return int64_t{blockIdx.x} * kThreads + threadIdx.x; }

__device__ int64_t clamp_index(int64_t i, int64_t size) { return i < 0 ? 0 : i >= size ? size - 1 : i; }

// Where an output pixel lies between two of the input's.
struct Place {
  int64_t low, high;
  double weight;
};

__device__ Place place_of(int64_t i, double ratio, int64_t size) {
  double place = (static_cast<double>(i) + 0.5) * ratio - 0.5;
  place = place > 0 ? place : 0;
  place = place < static_cast<double>(size - 1) ? place : static_cast<double>(size - 1);
  const auto low = static_cast<int64_t>(place);
  return {low, clamp_index(low + 1, size), place - static_cast<double>(low)};
}

// A thread makes one pixel of one plane; `pairs` counts planes. Planes are `from_stride` and `to_stride` values apart.
template <typename Real>
__global__ void __launch_bounds__(kThreads) resize_kernel(const Real* from, Grid from_grid, Real* to, Grid to_grid,
                                                          double ratio_y, double ratio_x, Real factor) {
  const int64_t index = thread_index(), pixels = to_grid.pixels();
  if (index >= to_grid.pairs * pixels) return;
  const int64_t plane = index / pixels, y = index % pixels / to_grid.width, x = index % to_grid.width;
  const Place row = place_of(y, ratio_y, from_grid.height), column = place_of(x, ratio_x, from_grid.width);
  const Real* source = from + plane * from_grid.pixels();
  const auto down = [&](int64_t at) {
    const Real a = source[row.low * from_grid.width + at], b = source[row.high * from_grid.width + at];
    return a + static_cast<Real>(row.weight) * (b - a);
  };
  const Real a = down(column.low), b = down(column.high);
  to[index] = factor * (a + static_cast<Real>(column.weight) * (b - a));
}

template <typename Real>
__global__ void __launch_bounds__(kThreads) zero_kernel(Real* values, int64_t count) {
  const int64_t index = thread_index();
  if (index < count) values[index] = 0;
}

// The median by forgetting: of any kCount / 2 + 2 values neither the smallest nor the largest is the median, so they are
// dropped and the next value comes in.
template <typename Real, int kSide>
__global__ void __launch_bounds__(kThreads) median_kernel(const Real* from, Real* to, Grid planes) {
  constexpr int kCount = kSide * kSide, kKept = kCount / 2 + 2, kEdge = kSide / 2;
  const int64_t index = thread_index(), pixels = planes.pixels();
  if (index >= planes.pairs * pixels) return;
  const int64_t y = index % pixels / planes.width, x = index % planes.width;
  const Real* plane = from + index / pixels * pixels;
  const auto load = [&](int i) {
    return plane[clamp_index(y + i / kSide - kEdge, planes.height) * planes.width +
                 clamp_index(x + i % kSide - kEdge, planes.width)];
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
  to[index] = kept[1];
}

// Catmull-Rom: the weights of the pixels at -1, 0, 1, 2.
template <typename Real>
__device__ void cubic_weights(Real t, Real* weights) {
  weights[0] = ((Real(-0.5) * t + 1) * t - Real(0.5)) * t;
  weights[1] = (Real(1.5) * t - Real(2.5)) * t * t + 1;
  weights[2] = ((Real(-1.5) * t + 2) * t + Real(0.5)) * t;
  weights[3] = (Real(0.5) * t - Real(0.5)) * t * t;
}

// A thread samples the second image and its central gradient for one pixel. data: [N, 3, H, W].
template <typename Real>
__global__ void __launch_bounds__(kThreads)
    linearise_kernel(const Real* first, const Real* second, const Real* flow, Real* data, Grid grid) {
  const int64_t index = thread_index(), pixels = grid.pixels();
  if (index >= grid.pairs * pixels) return;
  const int64_t pair = index / pixels, pixel = index % pixels;
  const Real u = flow[2 * pair * pixels + pixel], v = flow[(2 * pair + 1) * pixels + pixel];
  const Real x = static_cast<Real>(pixel % grid.width) + u, y = static_cast<Real>(pixel / grid.width) + v;
  Real value = 0, gx = 0, gy = 0, constant = 0;
  if (x >= 0 && x <= static_cast<Real>(grid.width - 1) && y >= 0 && y <= static_cast<Real>(grid.height - 1)) {
    const auto left = static_cast<int64_t>(x), top = static_cast<int64_t>(y);
    Real wx[4], wy[4];
    cubic_weights(x - static_cast<Real>(left), wx);
    cubic_weights(y - static_cast<Real>(top), wy);
    const Real* image = second + pair * pixels;
    for (int i = 0; i < 4; ++i) {
      const int64_t row = clamp_index(top + i - 1, grid.height);
      const Real* here = image + row * grid.width;
      const Real* above = image + clamp_index(row - 1, grid.height) * grid.width;
      const Real* below = image + clamp_index(row + 1, grid.height) * grid.width;
      Real line = 0, line_x = 0, line_y = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int64_t at = clamp_index(left + j - 1, grid.width);
        line += wx[j] * here[at];
        line_x += wx[j] * ((here[clamp_index(at + 1, grid.width)] - here[clamp_index(at - 1, grid.width)]) / 2);
        line_y += wx[j] * ((below[at] - above[at]) / 2);
      }
      const Real weight = i == 0 ? wy[0] : i == 1 ? wy[1] : i == 2 ? wy[2] : wy[3];
      value += weight * line;
      gx += weight * line_x;
      gy += weight * line_y;
    }
    constant = value - gx * u - gy * v - first[index];
  }
  Real* to = data + 3 * pair * pixels + pixel;
  to[0] = gx;
  to[pixels] = gy;
  to[2 * pixels] = constant;
}

template <typename Real>
struct Iterations {
  const Real* data;           // [N, 3, H, W]
  const Real *flow, *dual;    // [N, 2, H, W], [N, 4, H, W]
  Real *new_flow, *new_dual;  // the same, other memory
  Grid grid;
  int64_t tiles_x, tiles_y;
  int count;   // at most kFused
  bool start;  // the dual variables are 0 and are not read
  Real limit, tightness, k;
};

template <typename Real>
__global__ void __launch_bounds__(kThreads) iterate_kernel(Iterations<Real> args) {
  Real* state = reinterpret_cast<Real*>(dynamic_shared_memory());  // [kState][kRegionY][kRegionX]
  const int64_t tiles = args.tiles_x * args.tiles_y, tile = blockIdx.x % tiles, pair = blockIdx.x / tiles;
  const int64_t x_begin = tile % args.tiles_x * kInnerX - kFused, y_begin = tile / args.tiles_x * kInnerY - kFused;
  const int64_t height = args.grid.height, width = args.grid.width, pixels = height * width;
  const auto plane = [&](int number) { return state + number * kRegion; };
  Real gx[kOwned], gy[kOwned], constant[kOwned], inverse[kOwned];
#pragma unroll
  for (int i = 0; i < kOwned; ++i) {
    const int cell = i * kThreads + static_cast<int>(threadIdx.x);
    const int64_t x = x_begin + cell % kRegionX, y = y_begin + cell / kRegionX;
    const bool inside = x >= 0 && x < width && y >= 0 && y < height;
    const int64_t pixel = y * width + x;
    const Real* data = args.data + 3 * pair * pixels + pixel;
    gx[i] = inside ? data[0] : Real{0};
    gy[i] = inside ? data[pixels] : Real{0};
    constant[i] = inside ? data[2 * pixels] : Real{0};
    const Real square = gx[i] * gx[i] + gy[i] * gy[i];
    inverse[i] = square > Real(tvl1::kFlatGradient) ? Real(1) / square : Real{0};
    for (int axis = 0; axis < 2; ++axis) {
      plane(axis)[cell] = inside ? args.flow[(2 * pair + axis) * pixels + pixel] : Real{0};
    }
    for (int number = 0; number < 4; ++number) {
      plane(2 + number)[cell] = inside && !args.start ? args.dual[(4 * pair + number) * pixels + pixel] : Real{0};
    }
  }
  for (int iteration = 0; iteration < args.count; ++iteration) {
    __syncthreads();  // every dual variable is written before a neighbour reads it
#pragma unroll
    for (int i = 0; i < kOwned; ++i) {
      const int cell = i * kThreads + static_cast<int>(threadIdx.x);
      // outside the image the dual variables are 0, as the divergence wants it; outside the region they are unknown
      const bool has_left = cell % kRegionX > 0, has_above = cell >= kRegionX;
      const Real u = plane(0)[cell], v = plane(1)[cell];
      Real step = -(constant[i] + gx[i] * u + gy[i] * v) * inverse[i];
      step = step < args.limit ? step : args.limit;
      step = step > -args.limit ? step : -args.limit;
      const auto divergence = [&](const Real* px, const Real* py) {
        return px[cell] - (has_left ? px[cell - 1] : Real{0}) + py[cell] - (has_above ? py[cell - kRegionX] : Real{0});
      };
      plane(0)[cell] = u + (step * gx[i] + args.tightness * divergence(plane(2), plane(3)));
      plane(1)[cell] = v + (step * gy[i] + args.tightness * divergence(plane(4), plane(5)));
    }
    __syncthreads();  // every u is written before a neighbour reads it
#pragma unroll
    for (int i = 0; i < kOwned; ++i) {
      const int cell = i * kThreads + static_cast<int>(threadIdx.x);
      const int64_t x = x_begin + cell % kRegionX, y = y_begin + cell / kRegionX;
      if (x < 0 || x >= width || y < 0 || y >= height) continue;
      const bool has_right = x + 1 < width && cell % kRegionX + 1 < kRegionX;
      const bool has_below = y + 1 < height && cell + kRegionX < kRegion;
#pragma unroll
      for (int axis = 0; axis < 2; ++axis) {
        const Real* flow = plane(axis);
        const Real dx = has_right ? flow[cell + 1] - flow[cell] : Real{0};
        const Real dy = has_below ? flow[cell + kRegionX] - flow[cell] : Real{0};
        const Real scale = Real(1) / (Real(1) + args.k * sqrt(dx * dx + dy * dy));
        Real *px = plane(2 + 2 * axis), *py = plane(3 + 2 * axis);
        px[cell] = (px[cell] + args.k * dx) * scale;
        py[cell] = (py[cell] + args.k * dy) * scale;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kOwned; ++i) {  // a thread writes the cells that it computed itself
    const int cell = i * kThreads + static_cast<int>(threadIdx.x);
    const int column = cell % kRegionX - kFused, row = cell / kRegionX - kFused;
    const int64_t x = x_begin + kFused + column, y = y_begin + kFused + row;
    if (column < 0 || column >= kInnerX || row < 0 || row >= kInnerY || x >= width || y >= height) continue;
    for (int axis = 0; axis < 2; ++axis) args.new_flow[(2 * pair + axis) * pixels + y * width + x] = plane(axis)[cell];
    for (int number = 0; number < 4; ++number) {
      args.new_dual[(4 * pair + number) * pixels + y * width + x] = plane(2 + number)[cell];
    }
  }
}

template <typename Real>
struct Memory {
  std::vector<Real*> firsts, seconds;  // of the levels below the images themselves
  Real *flow[2], *dual[2], *data;

  Memory(Workspace& workspace, const Tvl1Flow& args) {
    const std::vector<Level> levels = tvl1::pyramid(args);
    for (size_t i = 1; i < levels.size(); ++i) {
      firsts.push_back(workspace.take<Real>(args.pairs * levels[i].pixels()));
      seconds.push_back(workspace.take<Real>(args.pairs * levels[i].pixels()));
    }
    const int64_t plane = args.pairs * levels.front().pixels();
    for (Real*& place : flow) place = workspace.take<Real>(2 * plane);
    for (Real*& place : dual) place = workspace.take<Real>((kState - 2) * plane);
    data = workspace.take<Real>(kDataTerm * plane);
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
    start(&zero_kernel<Real>, coarsest, memory_.flow[0], coarsest);
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
  Grid grid(Level level, int64_t planes) const { return {args_.pairs * planes, level.height, level.width}; }

  template <typename... Parameters>
  void start(void (*kernel)(Parameters...), int64_t threads, std::type_identity_t<Parameters>... arguments) {
    if (error_ != cudaSuccess) return;
    error_ = launch(kernel, grid_of((threads + kThreads - 1) / kThreads), dim3(kThreads), 0, stream_, arguments...);
  }

  void resize(const Real* from, Level from_level, Real* to, Level to_level, int64_t planes, double ratio_y,
              double ratio_x, Real factor) {
    const Grid to_grid = grid(to_level, planes);
    start(&resize_kernel<Real>, to_grid.pairs * to_grid.pixels(), from, grid(from_level, planes), to, to_grid, ratio_y,
          ratio_x, factor);
  }

  void solve_scale(const Real* first, const Real* second, Level level) {
    const Grid pairs = grid(level, 1), planes = grid(level, 2);
    bool fresh = true;  // the dual variables are still 0
    for (int64_t warp = 0; warp < args_.warps; ++warp) {
      if (args_.median > 1) {
        start(args_.median == 5 ? &median_kernel<Real, 5> : &median_kernel<Real, 3>, planes.pairs * planes.pixels(),
              memory_.flow[now_], memory_.flow[1 - now_], planes);
        now_ = 1 - now_;
      }
      start(&linearise_kernel<Real>, pairs.pairs * pairs.pixels(), first, second, memory_.flow[now_], memory_.data,
            pairs);
      for (int64_t done = 0; done < args_.iterations; done += kFused) {
        Iterations<Real> step{};
        step.data = memory_.data;
        step.flow = memory_.flow[now_];
        step.new_flow = memory_.flow[1 - now_];
        step.dual = memory_.dual[dual_];
        step.new_dual = memory_.dual[1 - dual_];
        step.grid = pairs;
        step.tiles_x = (level.width + kInnerX - 1) / kInnerX;
        step.tiles_y = (level.height + kInnerY - 1) / kInnerY;
        step.count = static_cast<int>(std::min<int64_t>(kFused, args_.iterations - done));
        step.start = fresh;
        step.limit = static_cast<Real>(args_.smoothness * args_.tightness);
        step.tightness = static_cast<Real>(args_.tightness);
        step.k = static_cast<Real>(args_.tau / args_.tightness);
        if (error_ == cudaSuccess) {
          error_ = launch(&iterate_kernel<Real>, grid_of(step.tiles_x * step.tiles_y * args_.pairs), dim3(kThreads),
                          kState * kRegion * sizeof(Real), stream_, step);
        }
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
  return args.dtype == Dtype::kFloat64 ? Run<double>(args, workspace, stream).solve()
                                       : Run<float>(args, workspace, stream).solve();
}

}  // namespace motionops
