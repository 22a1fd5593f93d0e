// pairwise_panels.cu under the emulator: what it makes of given scores.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <random>
#include <vector>

#include "check.h"
#include "contrast/pairwise_panels.h"
#include "core/device_types.h"

namespace {

using namespace motionops;

struct Case {
  int64_t rows, key_rows, first_row;
  bool weights;
  bool ids = false;
};

// Weights go where the scores are, as the binding has it, where Element is float.
template <typename Element>
void run_case(Dtype dtype, const Case& c) {
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
  CHECK(pairwise_panel_cuda(panel, nullptr) == cudaSuccess, "panel");
  const double scale = panel_weight_scale(dtype), rounding = dtype == Dtype::kBFloat16 ? 0x1p-8 : 0x1p-11;
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
      const double wanted = j == own || !counts(j) ? 0 : p, got = device_widen(weights[row * c.key_rows + j]) / scale;
      CHECK(std::abs(got - wanted) <= (std::is_same_v<Element, float> ? 1e-5 : rounding) * wanted, "weight %g for %g",
            got, wanted);
    }
  }
  for (int64_t row = 0; row < c.first_row; ++row) CHECK(rank[row] == -1, "row %ld was written", row);
}

}  // namespace

int main(int argc, char**) {
  // One column; fewer than threads, with and without loads of four; what a block keeps of a row, and more; no weights.
  // The first two run under sanitizers too.
  const Case cases[] = {{3, 2052, 1, true},           {2, 301, 7, true},        {1, 1, 0, true},
                        {3, 16384, 16381, true},      {2, 16388, 16386, true},  {2, 33001, 5, true},
                        {2, 16385, 0, false},         {3, 2052, 1, true, true}, {3, 301, 7, true, true},
                        {3, 33001, 16390, true, true}};
  for (const Case& c : cases) {
    if (argc > 1 && c.key_rows != 2052 && c.key_rows != 301) continue;
    run_case<float>(Dtype::kFloat32, c);
    run_case<__nv_bfloat16>(Dtype::kBFloat16, c);
    if (argc == 1) run_case<__half>(Dtype::kFloat16, c);
  }
  std::vector<float> sums(1000, 1.0f), part(1000, 2.0f);
  CHECK(add_panel_cuda(sums.data(), part.data(), 0.5f, 999, nullptr) == cudaSuccess, "add");
  CHECK(sums[0] == 1.5f && sums[998] == 1.5f && sums[999] == 1.0f, "sums %g %g %g", sums[0], sums[998], sums[999]);
  CHECK(add_panel_cuda(sums.data(), nullptr, 2.0f, 1000, nullptr) == cudaSuccess, "scale");
  CHECK(sums[0] == 3.0f && sums[999] == 2.0f, "scaled %g %g", sums[0], sums[999]);
  float loss = NAN;
  CHECK(mean_row_loss_cuda(sums.data(), 1000, &loss, nullptr) == cudaSuccess, "mean");
  CHECK(std::abs(loss - 2.999f) < 1e-5f, "mean %g", loss);
  return finish("emulated pairwise panels");
}
