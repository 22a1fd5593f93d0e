// pairwise_infonce between its products, in double, and the cases that the CPU and the CUDA launchers are tried on.
#pragma once

#include <cmath>
#include <iterator>
#include <random>
#include <type_traits>
#include <vector>

#include "check.h"
#include "contrast/pairwise_panels.h"

namespace pairwise_panels_cases {

using namespace motionops;

struct Case {
  int64_t rows, key_rows, first_row;
  bool weights;
  bool ids = false;
};

// One column; fewer than threads, with and without loads of four; what a block keeps of a row, and more; no weights.
// The first two run under sanitizers too.
inline constexpr size_t kFew = 2;
inline const Case kCases[] = {{3, 2052, 1, true},           {2, 301, 7, true},        {1, 1, 0, true},
                              {3, 16384, 16381, true},      {2, 16388, 16386, true},  {2, 33001, 5, true},
                              {2, 16385, 0, false},         {3, 2052, 1, true, true}, {3, 301, 7, true, true},
                              {3, 33001, 16390, true, true}};

// Weights go where the scores are, as the binding has it, where Element is float. `launch` takes the panel, `widen` one
// of its weights, which are `scale` times the probabilities.
template <typename Element, typename Launch, typename Widen>
void run_case(Dtype dtype, const Case& c, double scale, const Launch& launch, const Widen& widen) {
  constexpr double kTemperature = 0.2;
  std::mt19937 generator(static_cast<unsigned>(c.key_rows));
  std::normal_distribution<float> normal(0.0f, 0.3f);
  const int64_t queries = c.first_row + c.rows;
  std::vector<float> scores(c.rows * c.key_rows);
  for (float& score : scores) score = normal(generator);
  const std::vector<float> kept = scores;
  std::vector<Element> apart(std::is_same_v<Element, float> ? 0 : scores.size());
  auto* weights = std::is_same_v<Element, float> ? reinterpret_cast<Element*>(scores.data()) : apart.data();
  std::vector<int64_t> query_ids(c.ids ? queries : 0), key_ids(c.ids ? c.key_rows : 0);
  for (size_t i = 0; i < query_ids.size(); ++i) query_ids[i] = (int64_t{1} << 40) * (i % 2);
  for (size_t j = 0; j < key_ids.size(); ++j) key_ids[j] = (int64_t{1} << 40) * (j % 3);
  std::vector<int32_t> rank(queries, -1);
  std::vector<float> positive(queries, NAN), log_sum(queries, NAN), row_loss(queries, NAN);
  const PairwisePanel panel{dtype,
                            scores.data(),
                            c.weights ? weights : nullptr,
                            c.first_row,
                            c.rows,
                            c.key_rows,
                            c.ids ? query_ids.data() : nullptr,
                            c.ids ? key_ids.data() : nullptr,
                            kTemperature,
                            rank.data(),
                            positive.data(),
                            log_sum.data(),
                            row_loss.data()};
  launch(panel);
  const double rounding = dtype == Dtype::kBFloat16 ? 0x1p-8 : 0x1p-11;
  for (int64_t row = 0; row < c.rows; ++row) {
    const float* score = kept.data() + row * c.key_rows;
    const int64_t own = c.first_row + row;
    const auto counts = [&](int64_t j) { return j == own || !c.ids || query_ids[own] != key_ids[j]; };
    double sum = 0;
    int above = 0;
    for (int64_t j = 0; j < c.key_rows; ++j) {
      if (!counts(j)) continue;
      sum += std::exp((score[j] - static_cast<double>(score[own])) / kTemperature);
      above += score[j] > score[own] + 0x1p-20f * std::abs(score[own]);
    }
    CHECK(rank[own] == above, "rank %d for %d", rank[own], above);
    CHECK(std::abs(row_loss[own] - std::log(sum)) < 1e-5, "loss %g for %g", row_loss[own], std::log(sum));
    CHECK(std::abs(log_sum[own] - positive[own] - std::log(sum)) < 1e-5, "log sum %g", log_sum[own]);
    for (int64_t j = 0; c.weights && j < c.key_rows; ++j) {
      const double p = std::exp((score[j] - static_cast<double>(score[own])) / kTemperature) / sum;
      const double wanted = j == own || !counts(j) ? 0 : p, got = widen(weights[row * c.key_rows + j]) / scale;
      CHECK(std::abs(got - wanted) <= (std::is_same_v<Element, float> ? 1e-5 : rounding) * wanted, "weight %g for %g",
            got, wanted);
    }
  }
  for (int64_t row = 0; row < c.first_row; ++row) CHECK(rank[row] == -1, "row %ld was written", row);
}

}  // namespace pairwise_panels_cases
