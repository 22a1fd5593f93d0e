// A group is a matrix of its positions by its channels, and all kernels walk it alike: a thread owns 16 bytes of columns
// and goes down the rows, so that what belongs to a channel stays in registers, loads are whole and several of them are
// on their way. Where channels do not fill 16 bytes several rows are taken as one: its columns then are the same
// channels again. Groups lie along z, tiles of columns and chunks of rows along x.
//
// forward:   moments (x) -> one mean and sum of squares a chunk; merge_moments -> mean, var; normalise (x, residual -> y)
// backward:  sums (dy, x[, y] [-> d residual]) -> two sums a chunk; merge_sums -> what dx needs of a channel;
//            sum_groups -> dweight, dbias; grad_input (dy or d residual, x -> dx)
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "core/device_types.h"
#include "core/launch.h"
#include "core/workspace.h"
#include "layers/ghost_batch_norm.h"

namespace motionops {
namespace {

constexpr int kThreads = 256;
// Rows whose loads a thread has on their way; of double, four would take more registers than an sm_80 gives.
template <typename T>
constexpr int kInFlight = std::is_same_v<T, double> ? 2 : 4;
constexpr int kMostColumns = 64;  // packs of a tile
constexpr int kMostGroups = 240;  // in one launch: they are among its parameters
constexpr int kFewestRows = 16;   // of a thread, where there are that many: less does not pay for the merging
constexpr int kMostRows = 64;     // the sums of more would lose digits
constexpr int kBlocksPerMultiprocessor = 8;
constexpr int kMergeChannels = 32;
constexpr int kMergeLanes = 8;

struct Groups {
  int count;
  int32_t starts[kMostGroups + 1];  // samples
};

// How the matrices of all groups are cut up.
struct Plan {
  int64_t positions, channels;  // S, C
  int64_t width;                // elements of a row of the matrix: one or several positions
  int64_t packs;                // of a row
  int columns, lanes;           // of a tile: packs side by side, and the threads that share the rows of each
  int64_t tiles;
  int64_t chunks, chunk_rows;

  __host__ __device__ int64_t rows(int64_t samples) const { return samples * positions * channels / width; }
};

// Where a thread stands.
template <int kWidth>
struct Place {
  int group;
  int64_t chunk;
  int64_t column;  // its first element in a row
  int channel;     // of that element
  int lane;
  bool active;
  int64_t base;         // the group's first element
  int64_t first, last;  // rows of the chunk

  __device__ Place(const Plan& plan, const Groups& groups) {
    group = static_cast<int>(blockIdx.z);
    const int64_t tile = blockIdx.x % plan.tiles;
    chunk = blockIdx.x / plan.tiles;
    const int64_t pack = tile * plan.columns + threadIdx.x % plan.columns;
    lane = static_cast<int>(threadIdx.x) / plan.columns;
    active = lane < plan.lanes && pack < plan.packs;
    column = pack * kWidth;
    channel = static_cast<int>(column % plan.channels);
    base = groups.starts[group] * plan.positions * plan.channels;
    const int64_t rows = plan.rows(groups.starts[group + 1] - groups.starts[group]);
    first = min(chunk * plan.chunk_rows, rows);
    last = min(first + plan.chunk_rows, rows);
  }

  // use(row) for the rows of this thread, all loads of `load(row)` of a few rows before the first use(row, loaded).
  template <typename T, typename Load, typename Use>
  __device__ void each_row(const Plan& plan, const Load& load, const Use& use) const {
    for (int64_t row = first + lane; row < last; row += kInFlight<T> * plan.lanes) {
      decltype(load(row)) loaded[kInFlight<T>];
#pragma unroll
      for (int i = 0; i < kInFlight<T>; ++i) loaded[i] = load(min(row + i * plan.lanes, last - 1));
#pragma unroll
      for (int i = 0; i < kInFlight<T>; ++i) {
        if (row + i * plan.lanes < last) use(row + i * plan.lanes, loaded[i]);
      }
    }
  }

  // How many rows a lane of this chunk has.
  __device__ int64_t rows_of(const Plan& plan, int of_lane) const {
    const int64_t left = last - first - of_lane;
    return left <= 0 ? 0 : (left + plan.lanes - 1) / plan.lanes;
  }
};

// The values of its columns' channels, from an array [C] or [G, C] at the group; `otherwise` where there is none.
template <typename W, int kWidth>
__device__ void load_channels(W (&values)[kWidth], const W* from, const Place<kWidth>& place, const Plan& plan,
                              bool by_group, W otherwise = 0) {
  int channel = place.channel;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    values[i] =
        from == nullptr || !place.active ? otherwise : from[(by_group ? place.group * plan.channels : 0) + channel];
    if (++channel == plan.channels) channel = 0;
  }
}

// The group's first values of its columns' channels: what means are counted from until they are merged, so that they
// keep their digits where values lie far from zero.
template <typename T, int kWidth>
__device__ void load_first(DeviceWide<T> (&values)[kWidth], const T* group, const Place<kWidth>& place,
                           const Plan& plan) {
  int channel = place.channel;
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    values[i] = device_widen(group[channel]);
    if (++channel == plan.channels) channel = 0;
  }
}

__device__ __forceinline__ float inverse_deviation(float var, double eps) {
  return 1.0f / sqrtf(var + static_cast<float>(eps));
}
__device__ __forceinline__ double inverse_deviation(double var, double eps) { return 1.0 / sqrt(var + eps); }

// weight / sqrt(var + eps)
template <typename W, int kWidth>
__device__ void load_scale(W (&scale)[kWidth], const W* weight, const W* var, double eps, const Place<kWidth>& place,
                           const Plan& plan) {
  W variance[kWidth];
  load_channels(scale, weight, place, plan, false, W{1});
  load_channels(variance, var, place, plan, true, W{1});
#pragma unroll
  for (int i = 0; i < kWidth; ++i) scale[i] *= inverse_deviation(variance[i], eps);
}

// What `count` values say of their mean and of the sum of their squared distances from it.
template <typename W>
struct Moments {
  W mean, squares;

  // As if the values of `other` had been among them; share = other_count / (count + other_count).
  __device__ void merge(const Moments& other, W count, W share) {
    const W distance = other.mean - mean;
    mean += distance * share;
    squares += other.squares + distance * distance * count * share;
  }
};

// Two arrays [G, chunks, width] of what chunks have found.
template <typename W>
struct Partials {
  W* first;
  W* second;

  __device__ int64_t row(const Plan& plan, int group, int64_t chunk) const {
    return (group * plan.chunks + chunk) * plan.width;
  }
};

template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    moments_kernel(const T* input, Partials<DeviceWide<T>> partials, Plan plan, Groups groups) {
  using W = DeviceWide<T>;
  __shared__ Moments<W> shared[kThreads * kWidth];
  const Place<kWidth> place(plan, groups);
  Moments<W> own[kWidth] = {};
  const T* from = input + place.base + place.column;
  int64_t count = place.rows_of(plan, place.lane);
  if (place.active && count > 0) {
    const auto load = [&](int64_t row) { return load_pack<T, kWidth>(from + row * plan.width); };
    W origin[kWidth], common[kWidth], sum[kWidth] = {}, squares[kWidth] = {};
    const auto start = load(place.first + place.lane);
    load_first(common, input + place.base, place, plan);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) origin[i] = device_widen(start.values[i]);
    place.template each_row<T>(plan, load, [&](int64_t, const Pack<T, kWidth>& pack) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const W distance = device_widen(pack.values[i]) - origin[i];
        sum[i] += distance;
        squares[i] += distance * distance;
      }
    });
    const W inverse = W{1} / static_cast<W>(count);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      own[i] = {(origin[i] - common[i]) + sum[i] * inverse, squares[i] - sum[i] * sum[i] * inverse};
      if (own[i].squares < 0) own[i].squares = 0;  // a NaN stays
    }
  }
  // Lanes are merged by halves: each knows how many rows the others have.
  int64_t reach = count;
  int half = 1;
  while (half < plan.lanes) half *= 2;
  for (half /= 2; half > 0; half /= 2) {
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kWidth; ++i) shared[threadIdx.x * kWidth + i] = own[i];
    __syncthreads();
    const int other = place.lane + half;
    if (place.lane < half && other < plan.lanes) {
      int64_t others = 0;  // rows of all lanes that the other one has merged: those at distances of 2 * half
      for (int lane = other; lane < plan.lanes; lane += 2 * half) others += place.rows_of(plan, lane);
      if (others > 0) {
        const W share = static_cast<W>(others) / static_cast<W>(reach + others);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          own[i].merge(shared[(threadIdx.x + half * plan.columns) * kWidth + i], static_cast<W>(reach), share);
        }
        reach += others;
      }
    }
  }
  if (place.active && place.lane == 0) {
    const int64_t at = partials.row(plan, place.group, place.chunk) + place.column;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      partials.first[at + i] = own[i].mean;
      partials.second[at + i] = own[i].squares;
    }
  }
}

// visit(column of the partials, its rows) for what a lane merges of a channel.
template <typename Visit>
__device__ void each_partial(const Plan& plan, int64_t rows, int64_t channel, int lane, const Visit& visit) {
  for (int64_t chunk = lane; chunk < plan.chunks; chunk += kMergeLanes) {
    const int64_t first = min(chunk * plan.chunk_rows, rows);
    const int64_t count = min(plan.chunk_rows, rows - first);
    if (count == 0) return;
    for (int64_t column = channel; column < plan.width; column += plan.channels) visit(chunk, column, count);
  }
}

template <typename T>
__global__ void __launch_bounds__(kMergeChannels* kMergeLanes)
    merge_moments_kernel(const T* input, Partials<DeviceWide<T>> partials, DeviceWide<T>* mean, DeviceWide<T>* var,
                         Plan plan, Groups groups) {
  using W = DeviceWide<T>;
  __shared__ Moments<double> shared[kMergeLanes][kMergeChannels];
  __shared__ int64_t counts[kMergeLanes][kMergeChannels];
  const int group = static_cast<int>(blockIdx.z);
  const int lane = static_cast<int>(threadIdx.x) / kMergeChannels, place = threadIdx.x % kMergeChannels;
  const int64_t channel = int64_t{blockIdx.x} * kMergeChannels + place;
  Moments<double> own = {};
  int64_t reach = 0;
  const auto merge = [&](const Moments<double>& other, int64_t count) {
    if (count == 0) return;
    own.merge(other, static_cast<double>(reach), static_cast<double>(count) / static_cast<double>(reach + count));
    reach += count;
  };
  if (channel < plan.channels) {
    const int64_t rows = plan.rows(groups.starts[group + 1] - groups.starts[group]);
    each_partial(plan, rows, channel, lane, [&](int64_t chunk, int64_t column, int64_t count) {
      const int64_t at = partials.row(plan, group, chunk) + column;
      merge({static_cast<double>(partials.first[at]), static_cast<double>(partials.second[at])}, count);
    });
  }
  shared[lane][place] = own;
  counts[lane][place] = reach;
  __syncthreads();
  if (lane != 0 || channel >= plan.channels) return;
  for (int other = 1; other < kMergeLanes; ++other) merge(shared[other][place], counts[other][place]);
  const W common = device_widen(input[groups.starts[group] * plan.positions * plan.channels + channel]);
  mean[group * plan.channels + channel] = static_cast<W>(static_cast<double>(common) + own.mean);
  var[group * plan.channels + channel] = static_cast<W>(own.squares / static_cast<double>(reach));
}

// z of a value, before a residual and ReLU.
template <typename W>
__device__ __forceinline__ W normalised(W value, W mean, W scale, W bias) {
  return (value - mean) * scale + bias;
}

template <typename T, int kWidth>
struct Two {
  Pack<T, kWidth> first, second;
};

template <typename T, int kWidth, bool kResidual, bool kRelu>
__global__ void __launch_bounds__(kThreads)
    normalise_kernel(const T* input, const T* residual, T* output, const DeviceWide<T>* weight,
                     const DeviceWide<T>* bias, const DeviceWide<T>* mean, const DeviceWide<T>* var, double eps,
                     Plan plan, Groups groups) {
  using W = DeviceWide<T>;
  const Place<kWidth> place(plan, groups);
  if (!place.active) return;
  W center[kWidth], scale[kWidth], shift[kWidth];
  load_channels(center, mean, place, plan, true);
  load_channels(shift, bias, place, plan, false);
  load_scale(scale, weight, var, eps, place, plan);
  const int64_t base = place.base + place.column;
  place.template each_row<T>(
      plan,
      [&](int64_t row) {
        const int64_t at = base + row * plan.width;
        Two<T, kWidth> packs = {load_pack<T, kWidth>(input + at), {}};
        if constexpr (kResidual) packs.second = load_pack<T, kWidth>(residual + at);
        return packs;
      },
      [&](int64_t row, const Two<T, kWidth>& packs) {
        Pack<T, kWidth> result;
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          W z = normalised(device_widen(packs.first.values[i]), center[i], scale[i], shift[i]);
          if constexpr (kResidual) z += device_widen(packs.second.values[i]);
          if constexpr (kRelu) z = z < 0 ? W{0} : z;  // a NaN stays
          result.values[i] = device_narrow<T>(z);
        }
        *reinterpret_cast<Pack<T, kWidth>*>(output + base + row * plan.width) = result;
      });
}

// What tells where ReLU has let a value through.
enum class Mask { kNone, kRecomputed, kOutput };

template <typename T>
__device__ __forceinline__ bool is_through(T rounded) {
  return !(device_widen(rounded) <= 0);  // as torch's: a NaN lets its gradient through
}

template <typename T, int kWidth, Mask kMask>
__global__ void __launch_bounds__(kThreads)
    sums_kernel(const T* grad_output, const T* input, const T* output, T* grad_residual, const DeviceWide<T>* weight,
                const DeviceWide<T>* bias, const DeviceWide<T>* mean, const DeviceWide<T>* var, double eps,
                Partials<DeviceWide<T>> partials, Plan plan, Groups groups) {
  using W = DeviceWide<T>;
  __shared__ W shared[2 * kThreads * kWidth];
  const Place<kWidth> place(plan, groups);
  W total[kWidth] = {}, moment[kWidth] = {};
  if (place.active) {
    W center[kWidth], scale[kWidth], shift[kWidth];
    load_channels(center, mean, place, plan, true);
    if constexpr (kMask == Mask::kRecomputed) {
      load_channels(shift, bias, place, plan, false);
      load_scale(scale, weight, var, eps, place, plan);
    }
    struct Three {
      Pack<T, kWidth> grad, value, through;
    };
    const int64_t base = place.base + place.column;
    place.template each_row<T>(
        plan,
        [&](int64_t row) {
          const int64_t at = base + row * plan.width;
          Three packs = {load_pack<T, kWidth>(grad_output + at), load_pack<T, kWidth>(input + at), {}};
          if constexpr (kMask == Mask::kOutput) packs.through = load_pack<T, kWidth>(output + at);
          return packs;
        },
        [&](int64_t row, const Three& packs) {
          [[maybe_unused]] Pack<T, kWidth> masked = packs.grad;
#pragma unroll
          for (int i = 0; i < kWidth; ++i) {
            const W distance = device_widen(packs.value.values[i]) - center[i];
            bool through = true;
            if constexpr (kMask == Mask::kRecomputed) {
              through = is_through(device_narrow<T>(distance * scale[i] + shift[i]));
            } else if constexpr (kMask == Mask::kOutput) {
              through = is_through(packs.through.values[i]);
            }
            const W dz = through ? device_widen(packs.grad.values[i]) : W{0};
            if constexpr (kMask == Mask::kOutput) masked.values[i] = device_narrow<T>(dz);
            total[i] += dz;
            moment[i] += dz * distance;
          }
          if constexpr (kMask == Mask::kOutput) {
            *reinterpret_cast<Pack<T, kWidth>*>(grad_residual + base + row * plan.width) = masked;
          }
        });
  }
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    shared[2 * (threadIdx.x * kWidth + i)] = total[i];
    shared[2 * (threadIdx.x * kWidth + i) + 1] = moment[i];
  }
  __syncthreads();
  // In the order of the lanes; neighbouring threads take neighbouring columns of both sums.
  const int columns = 2 * plan.columns * kWidth;
  const int64_t at = partials.row(plan, place.group, place.chunk);
  const int64_t tile = blockIdx.x % plan.tiles * plan.columns * kWidth;
  for (int column = threadIdx.x; column < columns; column += kThreads) {
    W sum = 0;
    for (int lane = 0; lane < plan.lanes; ++lane) sum += shared[lane * columns + column];
    const int64_t element = tile + column / 2;
    if (element < plan.width) (column % 2 == 0 ? partials.first : partials.second)[at + element] = sum;
  }
}

// What a channel of a group adds to the input's gradient: dx = scale dz + slope (x - mean) + offset.
template <typename W>
struct Slopes {
  W* slope;   // [G, C]
  W* offset;  // [G, C]
};

template <typename W>
__global__ void __launch_bounds__(kMergeChannels* kMergeLanes)
    merge_sums_kernel(Partials<W> partials, const W* weight, const W* var, double eps, Slopes<W> slopes, W* weights,
                      W* biases, Plan plan, Groups groups) {
  __shared__ double totals[kMergeLanes][kMergeChannels], moments[kMergeLanes][kMergeChannels];
  const int group = static_cast<int>(blockIdx.z);
  const int lane = static_cast<int>(threadIdx.x) / kMergeChannels, place = threadIdx.x % kMergeChannels;
  const int64_t channel = int64_t{blockIdx.x} * kMergeChannels + place;
  const int64_t samples = groups.starts[group + 1] - groups.starts[group];
  double total = 0, moment = 0;
  if (channel < plan.channels) {
    each_partial(plan, plan.rows(samples), channel, lane, [&](int64_t chunk, int64_t column, int64_t) {
      const int64_t at = partials.row(plan, group, chunk) + column;
      total += static_cast<double>(partials.first[at]);
      moment += static_cast<double>(partials.second[at]);
    });
  }
  totals[lane][place] = total;
  moments[lane][place] = moment;
  __syncthreads();
  if (lane != 0 || channel >= plan.channels) return;
  for (int other = 1; other < kMergeLanes; ++other) {
    total += totals[other][place];
    moment += moments[other][place];
  }
  const int64_t at = group * plan.channels + channel;
  const auto count = static_cast<double>(samples * plan.positions);
  const double inverse = inverse_deviation(static_cast<double>(var[at]), eps);
  const double scale = (weight == nullptr ? 1.0 : static_cast<double>(weight[channel])) * inverse;
  slopes.slope[at] = static_cast<W>(-scale * inverse * inverse * moment / count);
  slopes.offset[at] = static_cast<W>(-scale * total / count);
  weights[at] = static_cast<W>(moment * inverse);
  biases[at] = static_cast<W>(total);
}

// Adds the groups' parts to what earlier launches have left.
template <typename W>
__global__ void __launch_bounds__(kThreads) sum_groups_kernel(const W* weights, const W* biases, W* grad_weight,
                                                              W* grad_bias, int64_t channels, int groups, bool first) {
  const int64_t channel = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (channel >= channels) return;
  double weight = first ? 0.0 : static_cast<double>(grad_weight[channel]);
  double bias = first ? 0.0 : static_cast<double>(grad_bias[channel]);
  for (int group = 0; group < groups; ++group) {
    weight += static_cast<double>(weights[group * channels + channel]);
    bias += static_cast<double>(biases[group * channels + channel]);
  }
  grad_weight[channel] = static_cast<W>(weight);
  grad_bias[channel] = static_cast<W>(bias);
}

// `grad` is dz already, or with kRecomputed dy.
template <typename T, int kWidth, Mask kMask>
__global__ void __launch_bounds__(kThreads)
    grad_input_kernel(const T* grad, const T* input, T* grad_input, const DeviceWide<T>* weight,
                      const DeviceWide<T>* bias, const DeviceWide<T>* mean, const DeviceWide<T>* var, double eps,
                      Slopes<DeviceWide<T>> slopes, Plan plan, Groups groups) {
  using W = DeviceWide<T>;
  const Place<kWidth> place(plan, groups);
  if (!place.active) return;
  W center[kWidth], scale[kWidth], shift[kWidth], slope[kWidth], offset[kWidth];
  load_channels(center, mean, place, plan, true);
  load_channels(slope, static_cast<const W*>(slopes.slope), place, plan, true);
  load_channels(offset, static_cast<const W*>(slopes.offset), place, plan, true);
  load_scale(scale, weight, var, eps, place, plan);
  if constexpr (kMask == Mask::kRecomputed) load_channels(shift, bias, place, plan, false);
  const int64_t base = place.base + place.column;
  place.template each_row<T>(
      plan,
      [&](int64_t row) {
        const int64_t at = base + row * plan.width;
        return Two<T, kWidth>{load_pack<T, kWidth>(grad + at), load_pack<T, kWidth>(input + at)};
      },
      [&](int64_t row, const Two<T, kWidth>& packs) {
        Pack<T, kWidth> result;
#pragma unroll
        for (int i = 0; i < kWidth; ++i) {
          const W distance = device_widen(packs.second.values[i]) - center[i];
          W dz = device_widen(packs.first.values[i]);
          if constexpr (kMask == Mask::kRecomputed) {
            dz = is_through(device_narrow<T>(distance * scale[i] + shift[i])) ? dz : W{0};
          }
          result.values[i] = device_narrow<T>(scale[i] * dz + (slope[i] * distance + offset[i]));
        }
        *reinterpret_cast<Pack<T, kWidth>*>(grad_input + base + row * plan.width) = result;
      });
}

bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// Whether packs of `width` elements keep to the rows of every group: several positions as one row fill whole packs.
template <typename Args>
bool packs_fit(const Args& args, int64_t width) {
  int64_t positions = width;  // of a row; width is a power of two
  for (int64_t c = args.channels; positions > 1 && c % 2 == 0; c /= 2) positions /= 2;
  for (int64_t g = 0; g < args.group_count; ++g) {
    if (args.groups[g] * args.positions % positions != 0) return false;
  }
  return true;
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// For packs of `pack` elements, and groups of which the largest has `samples`.
template <typename Args>
Plan plan_for(const Args& args, int64_t pack, int64_t samples, int64_t groups) {
  Plan plan{};
  plan.positions = args.positions;
  plan.channels = args.channels;
  plan.width = args.channels;
  while (plan.width % pack != 0) plan.width *= 2;
  plan.packs = plan.width / pack;
  plan.tiles = ceil_div(plan.packs, kMostColumns);
  plan.columns = static_cast<int>(ceil_div(plan.packs, plan.tiles));
  plan.lanes = kThreads / plan.columns;
  const int64_t rows = plan.rows(samples);
  const int64_t blocks = int64_t{kBlocksPerMultiprocessor} * multiprocessor_count();
  const int64_t wanted = std::max<int64_t>(1, blocks / std::max<int64_t>(1, groups * plan.tiles));
  plan.chunk_rows =
      std::clamp<int64_t>(ceil_div(rows, wanted), int64_t{plan.lanes} * kFewestRows, int64_t{plan.lanes} * kMostRows);
  plan.chunks = std::max<int64_t>(1, ceil_div(rows, plan.chunk_rows));
  return plan;
}

template <typename Args>
int64_t largest_group(const Args& args) {
  return args.group_count == 0 ? 0 : *std::max_element(args.groups, args.groups + args.group_count);
}

// Scratch arrays of both passes, by the larger of the two widths' needs.
template <typename W>
struct Scratch {
  Partials<W> partials;
  Slopes<W> slopes;
  W* weights;
  W* biases;
  size_t bytes;
};

template <typename W, typename Args>
Scratch<W> scratch_of(const Args& args, int64_t pack, bool backward, void* base) {
  const int64_t groups = std::min<int64_t>(args.group_count, kMostGroups);
  const Plan plan = plan_for(args, pack, largest_group(args), groups);
  Workspace space(base);
  Scratch<W> scratch{};
  scratch.partials.first = space.take<W>(groups * plan.chunks * plan.width);
  scratch.partials.second = space.take<W>(groups * plan.chunks * plan.width);
  if (backward) {
    scratch.slopes.slope = space.take<W>(groups * plan.channels);
    scratch.slopes.offset = space.take<W>(groups * plan.channels);
    scratch.weights = space.take<W>(groups * plan.channels);
    scratch.biases = space.take<W>(groups * plan.channels);
  }
  scratch.bytes = space.bytes();
  return scratch;
}

template <typename Args>
size_t bytes_of(const Args& args, bool backward) {
  if (args.group_count == 0 || args.channels == 0 || args.positions == 0) return 0;
  const auto of = [&]<typename W>(W, int64_t pack) { return scratch_of<W>(args, pack, backward, nullptr).bytes; };
  const auto most = [&]<typename W>(W zero, int64_t pack) { return std::max(of(zero, pack), of(zero, 1)); };
  switch (args.dtype) {
    case Dtype::kFloat64:
      return most(0.0, 2);
    case Dtype::kFloat32:
      return most(0.0f, 4);
    default:
      return most(0.0f, 8);
  }
}

// run(groups, index of the first) for as many groups as a launch takes.
template <typename Args, typename Run>
cudaError_t each_launch(const Args& args, const Run& run) {
  int32_t sample = 0;
  for (int64_t first = 0; first < args.group_count; first += kMostGroups) {
    Groups groups{};
    groups.count = static_cast<int>(std::min<int64_t>(kMostGroups, args.group_count - first));
    groups.starts[0] = sample;
    for (int g = 0; g < groups.count; ++g) {
      sample += static_cast<int32_t>(args.groups[first + g]);
      groups.starts[g + 1] = sample;
    }
    const cudaError_t error = run(groups, first);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

// function.template operator()<kWidth>(): 16 bytes where alignment and rows allow it, else one element.
template <typename T, typename Args, typename Function>
cudaError_t choose_width(const Args& args, std::initializer_list<const void*> pointers, const Function& function) {
  constexpr int kWidth = 16 / sizeof(T);
  const bool wide = packs_fit(args, kWidth) && std::all_of(pointers.begin(), pointers.end(), is_aligned);
  return wide ? function.template operator()<kWidth>() : function.template operator()<1>();
}

template <typename T, int kWidth>
cudaError_t forward(const GhostBatchNormForward& args, void* workspace, cudaStream_t stream) {
  using W = DeviceWide<T>;
  const Scratch<W> scratch = scratch_of<W>(args, kWidth, false, workspace);
  const auto* input = static_cast<const T*>(args.input);
  const auto* residual = static_cast<const T*>(args.residual);
  const auto* weight = static_cast<const W*>(args.weight);
  const auto* bias = static_cast<const W*>(args.bias);
  const int64_t most = std::min<int64_t>(args.group_count, kMostGroups);
  const Plan plan = plan_for(args, kWidth, largest_group(args), most);
  return each_launch(args, [&](const Groups& groups, int64_t first) {
    W* mean = static_cast<W*>(args.mean) + first * args.channels;
    W* var = static_cast<W*>(args.var) + first * args.channels;
    const dim3 grid = grid_of(plan.tiles * plan.chunks, groups.count);
    const dim3 merge = grid_of(ceil_div(args.channels, kMergeChannels), groups.count);
    cudaError_t error =
        launch(&moments_kernel<T, kWidth>, grid, dim3(kThreads), 0, stream, input, scratch.partials, plan, groups);
    if (error != cudaSuccess) return error;
    error = launch(&merge_moments_kernel<T>, merge, dim3(kMergeChannels * kMergeLanes), 0, stream, input,
                   scratch.partials, mean, var, plan, groups);
    if (error != cudaSuccess) return error;
    const auto normalise = [&]<bool kResidual, bool kRelu>() {
      return launch(&normalise_kernel<T, kWidth, kResidual, kRelu>, grid, dim3(kThreads), 0, stream, input, residual,
                    static_cast<T*>(args.output), weight, bias, mean, var, args.eps, plan, groups);
    };
    if (residual != nullptr) {
      return args.relu ? normalise.template operator()<true, true>() : normalise.template operator()<true, false>();
    }
    return args.relu ? normalise.template operator()<false, true>() : normalise.template operator()<false, false>();
  });
}

template <typename T, int kWidth, Mask kMask>
cudaError_t backward(const GhostBatchNormBackward& args, void* workspace, cudaStream_t stream) {
  using W = DeviceWide<T>;
  const Scratch<W> scratch = scratch_of<W>(args, kWidth, true, workspace);
  const auto* grad = static_cast<const T*>(args.grad_output);
  const auto* input = static_cast<const T*>(args.input);
  auto* grad_residual = static_cast<T*>(args.grad_residual);
  const auto* weight = static_cast<const W*>(args.weight);
  const auto* bias = static_cast<const W*>(args.bias);
  const int64_t most = std::min<int64_t>(args.group_count, kMostGroups);
  const Plan plan = plan_for(args, kWidth, largest_group(args), most);
  return each_launch(args, [&](const Groups& groups, int64_t first) {
    const W* mean = static_cast<const W*>(args.mean) + first * args.channels;
    const W* var = static_cast<const W*>(args.var) + first * args.channels;
    const dim3 grid = grid_of(plan.tiles * plan.chunks, groups.count);
    const dim3 merge = grid_of(ceil_div(args.channels, kMergeChannels), groups.count);
    cudaError_t error = launch(&sums_kernel<T, kWidth, kMask>, grid, dim3(kThreads), 0, stream, grad, input,
                               static_cast<const T*>(args.output), grad_residual, weight, bias, mean, var, args.eps,
                               scratch.partials, plan, groups);
    if (error != cudaSuccess) return error;
    error = launch(&merge_sums_kernel<W>, merge, dim3(kMergeChannels * kMergeLanes), 0, stream, scratch.partials,
                   weight, var, args.eps, scratch.slopes, scratch.weights, scratch.biases, plan, groups);
    if (error != cudaSuccess) return error;
    error = launch(&sum_groups_kernel<W>, grid_of(ceil_div(args.channels, kThreads)), dim3(kThreads), 0, stream,
                   scratch.weights, scratch.biases, static_cast<W*>(args.grad_weight), static_cast<W*>(args.grad_bias),
                   args.channels, groups.count, first == 0);
    if (error != cudaSuccess) return error;
    constexpr Mask kLeft = kMask == Mask::kOutput ? Mask::kNone : kMask;
    return launch(&grad_input_kernel<T, kWidth, kLeft>, grid, dim3(kThreads), 0, stream,
                  kMask == Mask::kOutput ? grad_residual : grad, input, static_cast<T*>(args.grad_input), weight, bias,
                  mean, var, args.eps, scratch.slopes, plan, groups);
  });
}

template <typename Args>
bool is_empty(const Args& args) {
  return args.group_count == 0 || args.positions == 0 || args.channels == 0;
}

}  // namespace

size_t ghost_batch_norm_workspace_bytes(const GhostBatchNormForward& args) { return bytes_of(args, false); }
size_t ghost_batch_norm_backward_workspace_bytes(const GhostBatchNormBackward& args) { return bytes_of(args, true); }

cudaError_t ghost_batch_norm_forward_cuda(const GhostBatchNormForward& args, void* workspace, cudaStream_t stream) {
  if (is_empty(args)) return cudaSuccess;
  return for_device_dtype(args.dtype, [&]<typename T>() {
    return choose_width<T>(args, {args.input, args.residual, args.output},
                           [&]<int kWidth>() { return forward<T, kWidth>(args, workspace, stream); });
  });
}

cudaError_t ghost_batch_norm_backward_cuda(const GhostBatchNormBackward& args, void* workspace, cudaStream_t stream) {
  if (is_empty(args)) return cudaSuccess;
  return for_device_dtype(args.dtype, [&]<typename T>() {
    return choose_width<T>(args, {args.grad_output, args.input, args.output, args.grad_input, args.grad_residual},
                           [&]<int kWidth>() {
                             if (!args.relu) return backward<T, kWidth, Mask::kNone>(args, workspace, stream);
                             if (args.output != nullptr)
                               return backward<T, kWidth, Mask::kOutput>(args, workspace, stream);
                             return backward<T, kWidth, Mask::kRecomputed>(args, workspace, stream);
                           });
  });
}

}  // namespace motionops
