// What pairwise_infonce does between the products of panels: see pairwise_panels.h.
//
// A CTA takes a row of scores. Its threads keep what they have read last in registers, so that a row of up to 16384
// columns is read once and each exponential taken once; of a longer one all but the last piece is read again, out of the
// caches, when its sum is known.
#include "contrast/pairwise_panels.h"

#include <cfloat>

#include "contrast/feature_element.cuh"
#include "contrast/streaming_partials.cuh"
#include "core/device_types.h"
#include "core/launch.h"
#include "core/matrix_tile.h"
#include "core/warp.h"

namespace motionops {
namespace {

constexpr int kPanelThreads = 256;
constexpr int kPanelWarps = kPanelThreads / 32;
constexpr int kKeptScores = 64;  // of a thread, in registers
constexpr int kSumThreads = 128;
constexpr int kLossThreads = 1024;

// kWidth scores at once, where every row starts on as many.
template <typename Element, int kWidth>
class PanelRow {
 public:
  static constexpr int kPacks = kKeptScores / kWidth, kStep = kPanelThreads * kWidth, kPiece = kStep * kPacks;

  __device__ __forceinline__ PanelRow(const PairwisePanel& panel, int64_t row)
      : scores_(panel.scores + row * panel.key_rows),
        columns_(panel.key_rows),
        own_(panel.first_row + row),
        key_ids_(panel.key_ids),
        id_(panel.query_ids != nullptr ? panel.query_ids[own_] : 0),
        inverse_temperature_(panel.temperature.read_inverse()),
        positive_(scores_[own_]),
        above_(positive_ + fminf(fabsf(positive_), FLT_MAX) * kTie) {}

  __device__ __forceinline__ int64_t own() const { return own_; }
  __device__ __forceinline__ float positive() const { return positive_; }
  __device__ __forceinline__ float positive_above(float base) const {
    return (positive_ - base) * inverse_temperature_;
  }
  __device__ __forceinline__ int64_t last_piece() const { return (columns_ - 1) / kPiece * kPiece; }

  // Reads the columns begin .. begin + kPiece as scores, minus infinity for the own key and for those of its video.
  __device__ __forceinline__ void read(int64_t begin) {
    const int left = static_cast<int>(min(columns_ - begin, int64_t{kPiece})) - mine();
    packs_ = left > 0 ? (left + kStep - 1) / kStep : 0;
    const float* from = scores_ + begin + mine();
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      // plain loads: where the weights are written is where the scores may be
      if (i < packs_) kept_[i] = *reinterpret_cast<const Pack<float, kWidth>*>(from + i * kStep);
    }
    const int64_t place = own_ - begin;
    const int own = place >= 0 && place < kPiece ? static_cast<int>(place) - mine() : -1;
    if (own >= 0 && own % kStep < kWidth) {  // one thread of the block
#pragma unroll
      for (int i = 0; i < kPacks; ++i) {
#pragma unroll
        for (int j = 0; j < kWidth; ++j) {
          if (own == i * kStep + j) kept_[i].values[j] = -INFINITY;
        }
      }
    }
    if (key_ids_ == nullptr) return;
    const int64_t* ids = key_ids_ + begin + mine();
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      if (i >= packs_) break;
#pragma unroll
      for (int j = 0; j < kWidth; ++j) {
        if (__ldg(ids + i * kStep + j) == id_) kept_[i].values[j] = -INFINITY;
      }
    }
  }

  // Takes what was read into the row's largest score and rank.
  __device__ __forceinline__ void compare(float& highest, int& rank) {
    each_kept([&](float score) {
      rank += score > above_;
      highest = fmaxf(highest, score);  // a NaN shows in the sum
    });
  }

  // e^((score - base) / temperature)
  __device__ __forceinline__ float exponential(float score, float base) const {
    return exp_approximate((score - base) * inverse_temperature_);
  }

  // Makes exponentials of what was read, and returns their sum.
  __device__ __forceinline__ float exponentials(float base) {
    const float scale = inverse_temperature_ * kLog2E;
    float sum = 0.0f;
    each_kept([&](float& score) {
      score = exp2_approximate((score - base) * scale);
      sum += score;
    });
    return sum;
  }

  // What was read times `factor`; `weights` belong to the first column of it.
  __device__ __forceinline__ void write(Element* weights, float factor) const {
    Element* to = weights + mine();
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      if (i >= packs_) break;
      Pack<Element, kWidth> pack;
#pragma unroll
      for (int j = 0; j < kWidth; ++j) pack.values[j] = device_narrow<Element>(kept_[i].values[j] * factor);
      *reinterpret_cast<Pack<Element, kWidth>*>(to + i * kStep) = pack;
    }
  }

 private:
  static __device__ __forceinline__ int mine() { return static_cast<int>(threadIdx.x) * kWidth; }

  template <typename Body>
  __device__ __forceinline__ void each_kept(Body body) {
#pragma unroll
    for (int i = 0; i < kPacks; ++i) {
      if (i >= packs_) break;
#pragma unroll
      for (int j = 0; j < kWidth; ++j) body(kept_[i].values[j]);
    }
  }

  const float* scores_;
  int64_t columns_;
  int64_t own_;
  const int64_t* key_ids_;  // null: every key counts
  int64_t id_;
  float inverse_temperature_;
  float positive_;  // not divided by the temperature
  float above_;     // what a score has to exceed to stand above it
  int packs_ = 0;   // of this thread's, that exist
  Pack<float, kWidth> kept_[kPacks];
};

// Over the block; every thread gets the result. `scratch` may be used again after the next barrier of the block.
__device__ __forceinline__ float block_max(float value, float (&scratch)[kPanelWarps]) {
  value = warp_max(value);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
#pragma unroll
  for (int warp = 0; warp < kPanelWarps; ++warp) value = fmaxf(value, scratch[warp]);
  return value;
}

template <typename Element, int kWidth>
__global__ void __launch_bounds__(kPanelThreads, 2)
    pairwise_panel_kernel(const __grid_constant__ PairwisePanel panel, float weight_scale) {
  using Row = PanelRow<Element, kWidth>;
  __shared__ float maxima[2][kPanelWarps], sums[kPanelWarps];
  __shared__ int ranks[kPanelWarps];
  Row row(panel, blockIdx.x);
  float highest = row.positive(), rest = 0.0f;
  int rank = 0;
  for (int64_t begin = 0; begin < panel.key_rows; begin += Row::kPiece) {
    row.read(begin);
    float mine = highest;
    row.compare(mine, rank);
    const float larger = block_max(mine, maxima[begin / Row::kPiece % 2]), base = finite_base(larger);
    rest = rest * row.exponential(highest, base) + row.exponentials(base);
    highest = larger;
  }
  const float base = finite_base(highest), positive = row.positive_above(base);
  rank = block_sum(rank, ranks);
  rest = block_sum(rest, sums);
  const float sum = rest + expf(positive);
  if (threadIdx.x == 0) {
    const float log_sum = positive == 0.0f ? log1pf(rest) : logf(sum);
    panel.rank[row.own()] = rank;
    panel.positive_logit[row.own()] = positive;
    panel.log_sum_exp[row.own()] = log_sum;
    panel.row_loss[row.own()] = log_sum - positive;
  }
  if (panel.weights == nullptr) return;
  const float factor = weight_scale / sum;
  Element* weights = static_cast<Element*>(panel.weights) + blockIdx.x * panel.key_rows;
  row.write(weights + row.last_piece(), factor);
  for (int64_t begin = 0; begin < row.last_piece(); begin += Row::kPiece) {
    row.read(begin);
    row.exponentials(base);
    row.write(weights + begin, factor);
  }
}

__global__ void __launch_bounds__(kSumThreads)
    add_panel_kernel(float* sums, const float* part, float scale, int64_t count) {
  constexpr int kBatch = 4;
  const int64_t begin = blockIdx.x * int64_t{kSumThreads * kBatch} + threadIdx.x;
  float sum[kBatch];
#pragma unroll
  for (int i = 0; i < kBatch; ++i) {
    const int64_t index = begin + i * kSumThreads;
    sum[i] = index < count ? sums[index] + (part != nullptr ? part[index] : 0.0f) : 0.0f;
  }
#pragma unroll
  for (int i = 0; i < kBatch; ++i) {
    const int64_t index = begin + i * kSumThreads;
    if (index < count) sums[index] = sum[i] * scale;
  }
}

// One block: the mean over the rows.
__global__ void __launch_bounds__(kLossThreads) mean_row_loss_kernel(const float* row_loss, int64_t rows, float* loss) {
  __shared__ float scratch[kLossThreads / 32];
  float total = 0.0f;
  for (int64_t row = threadIdx.x; row < rows; row += kLossThreads) total += row_loss[row];
  total = block_sum(total, scratch);
  if (threadIdx.x == 0) *loss = total / static_cast<float>(rows);
}

}  // namespace

float panel_weight_scale(Dtype dtype) { return dtype == Dtype::kFloat16 ? Float16Arithmetic::kWeightScale : 1.0f; }

cudaError_t pairwise_panel_cuda(const PairwisePanel& panel, cudaStream_t stream) {
  return with_element(panel.dtype, [&](auto element) {
    using Element = decltype(element);
    const auto kernel = panel.key_rows % 4 == 0 ? pairwise_panel_kernel<Element, 4> : pairwise_panel_kernel<Element, 1>;
    return launch(kernel, grid_of(panel.rows), dim3(kPanelThreads), 0, stream, panel, panel_weight_scale(panel.dtype));
  });
}

cudaError_t add_panel_cuda(float* sums, const float* part, float scale, int64_t count, cudaStream_t stream) {
  constexpr int64_t kPerBlock = kSumThreads * 4;
  return launch(add_panel_kernel, grid_of((count + kPerBlock - 1) / kPerBlock), dim3(kSumThreads), 0, stream, sums,
                part, scale, count);
}

cudaError_t mean_row_loss_cuda(const float* row_loss, int64_t rows, float* loss, cudaStream_t stream) {
  return launch(mean_row_loss_kernel, dim3(1), dim3(kLossThreads), 0, stream, row_loss, rows, loss);
}

}  // namespace motionops
