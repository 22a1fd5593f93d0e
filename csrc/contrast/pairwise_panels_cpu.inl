// One row of scores, compiled once for each SIMD target: included by pairwise_panels_cpu.cpp through
// core/simd_targets.inl. No include guard, no includes.

#include "core/vector_math.inl"

using Lanes = Simd<float>::Vector;
constexpr int64_t kLanes = Simd<float>::kLanes;
constexpr int kChains = 4;  // of additions and comparisons that do not wait for each other

// Calls body(place, chain) on every vector of row[0 .. count); behind the last score the row is minus infinity.
template <typename Body>
inline __attribute__((always_inline)) void each_vector(float* row, int64_t count, const Body& body) {
  int64_t j = 0;
  for (; j + kChains * kLanes <= count; j += kChains * kLanes) {
#pragma GCC unroll 4
    for (int chain = 0; chain < kChains; ++chain) body(row + j + chain * kLanes, chain);
  }
  for (; j + kLanes <= count; j += kLanes) body(row + j, 0);
  if (j == count) return;
  float rest[kLanes];
  std::fill_n(rest, kLanes, -std::numeric_limits<float>::infinity());
  std::copy(row + j, row + count, rest);
  body(rest, 0);
  std::copy_n(rest, count - j, row + j);
}

// The largest score, and how many are above `threshold`. A NaN shows in the sum.
inline float highest_score(float* row, int64_t count, float threshold, int32_t& above) {
  using Counts = decltype(Lanes{} > Lanes{});
  Lanes highest[kChains];
  Counts counts[kChains] = {};
  for (Lanes& chain : highest) chain = broadcast(-std::numeric_limits<float>::infinity());
  const Lanes limit = broadcast(threshold);
  each_vector(row, count, [&](const float* at, int chain) __attribute__((always_inline)) {
    const Lanes score = load(at);
    highest[chain] = score > highest[chain] ? score : highest[chain];
    counts[chain] -= score > limit;  // true is −1
  });
  float result = -std::numeric_limits<float>::infinity();
  above = 0;
  for (int chain = 0; chain < kChains; ++chain) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      result = std::max(result, highest[chain][lane]);
      above += static_cast<int32_t>(counts[chain][lane]);
    }
  }
  return result;
}

// Leaves e^(scale score − base) in place of the scores, and returns their sum: of some in float32, of those in double.
inline double exponentials(float* row, int64_t count, float scale, float base) {
  constexpr int64_t kAddedInFloat = 1024;
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kAddedInFloat) {
    Lanes sums[kChains] = {};
    each_vector(row + begin, std::min(kAddedInFloat, count - begin),
                [&](float* at, int chain) __attribute__((always_inline)) {
                  const Lanes weight = exponential<float>(load(at) * scale - base);
                  store(at, weight);
                  sums[chain] += weight;
                });
    const Lanes sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    for (int64_t lane = 0; lane < kLanes; ++lane) total += sum[lane];
  }
  return total;
}

inline void panel_row(const PairwisePanel& panel, int64_t index) {
  const int64_t columns = panel.key_rows, own = panel.first_row + index;
  const float lowest = -std::numeric_limits<float>::infinity();
  float* row = panel.scores + index * columns;
  const float positive = row[own];
  row[own] = lowest;
  if (panel.query_ids != nullptr) {
    const int64_t id = panel.query_ids[own];
    for (int64_t j = 0; j < columns; ++j) row[j] = panel.key_ids[j] == id ? lowest : row[j];
  }
  const float scale = panel.temperature.inverse;
  const float threshold = positive + std::min(std::abs(positive), std::numeric_limits<float>::max()) * kTie;
  const float highest = highest_score(row, columns, threshold, panel.rank[own]);
  const float logit = positive * scale, largest = std::max(highest * scale, logit);
  const float base = largest == lowest ? 0.0f : largest;
  const auto rest = static_cast<float>(exponentials(row, columns, scale, base));
  const float sum = rest + std::exp(logit - base);
  const float log_sum = logit == base ? std::log1p(rest) : std::log(sum);
  panel.positive_logit[own] = logit - base;
  panel.log_sum_exp[own] = log_sum;
  panel.row_loss[own] = (base - logit) + log_sum;
  if (panel.weights == nullptr) return;
  const float factor = 1.0f / sum;
  for (int64_t j = 0; j < columns; ++j) row[j] *= factor;
}
