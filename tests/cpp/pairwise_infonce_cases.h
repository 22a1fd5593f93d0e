// pairwise_infonce in double, and the cases that the CPU and the CUDA launchers are compared with it on.
#pragma once

#include <limits>

#include "check.h"
#include "contrast/pairwise_infonce.h"
#include "dense.h"

namespace pairwise_infonce_cases {

using namespace dense;

struct Case {
  int64_t rows, key_rows, dim;
  bool query_gradient;
  bool ids = false;
};

// `forward` and `backward` launch; T is the accumulation type.
template <typename T, typename Forward, typename Backward>
void run_case(Dtype dtype, const Case& c, bool tensor_cores, bool tf32, const Forward& forward,
              const Backward& backward) {
  constexpr double kTemperature = 0.2;
  std::mt19937 generator(static_cast<unsigned>(c.rows * 1000 + c.key_rows));
  const Features query = random_features(dtype, c.rows, c.dim, generator);
  const Features key = random_features(dtype, c.key_rows, c.dim, generator);
  std::vector<int64_t> query_ids, key_ids;  // some videos, whatever the position
  for (int64_t i = 0; c.ids && i < c.rows; ++i) query_ids.push_back((int64_t{1} << 40) * (i * i % 7) - 1);
  for (int64_t j = 0; c.ids && j < c.key_rows; ++j) key_ids.push_back((int64_t{1} << 40) * (j % 9) - 1);
  const int64_t* const ids_of_queries = c.ids ? query_ids.data() : nullptr;
  const int64_t* const ids_of_keys = c.ids ? key_ids.data() : nullptr;
  const auto counts = [&](int64_t i, int64_t j) { return i == j || !c.ids || query_ids[i] != key_ids[j]; };
  T loss = NAN, grad_loss = 1.5;
  std::vector<int32_t> rank(c.rows, -1);
  std::vector<T> positive(c.rows, NAN), log_sum_exp(c.rows, NAN), expected(c.rows * c.dim, NAN);
  std::vector<T> expected_query(c.key_rows * c.dim, NAN);
  std::vector<T> grad_query(c.rows * c.dim, NAN), grad_key(c.key_rows * c.dim, NAN);
  T* kept = c.query_gradient ? expected.data() : nullptr;
  forward(motionops::PairwiseInfonceForward{
      dtype, query.storage.data(), key.storage.data(), ids_of_queries, ids_of_keys, c.rows, c.key_rows, c.dim,
      kTemperature, tf32, &loss, rank.data(), positive.data(), log_sum_exp.data(), kept, expected_query.data()});
  backward(motionops::PairwiseInfonceBackward{dtype, query.storage.data(), key.storage.data(), ids_of_queries,
                                              ids_of_keys, &grad_loss, positive.data(), log_sum_exp.data(), kept,
                                              expected_query.data(), c.rows, c.key_rows, c.dim, kTemperature, tf32,
                                              false, c.query_gradient ? grad_query.data() : nullptr, grad_key.data()});

  std::vector<const double*> columns;
  for (int64_t j = 0; j < c.key_rows; ++j) columns.push_back(key.row(j));
  const double scalar = scalar_tolerance(dtype, tf32),
               factor = grad_loss / (static_cast<double>(c.rows) * kTemperature);
  double mean = 0;
  int64_t wrong_ranks = 0;
  RelativeError query_error, key_error;
  std::vector<double> to_key(c.key_rows * c.dim);
  for (int64_t i = 0; i < c.rows; ++i) {
    const DenseRow row(query.row(i), columns, c.dim, kTemperature, [&](size_t j) { return counts(i, j); });
    const double own = dot(query.row(i), key.row(i), c.dim) / kTemperature;
    mean += (row.log_sum_exp - own) / static_cast<double>(c.rows);
    int above = 0;
    for (int64_t j = 0; j < c.key_rows; ++j) {
      const double other = dot(query.row(i), key.row(j), c.dim) / kTemperature;
      above += j != i && counts(i, j) && other > own;
      const double coefficient = factor * (row.probability[j] - (i == j ? 1 : 0));
      for (int64_t d = 0; d < c.dim; ++d) to_key[j * c.dim + d] += coefficient * query.row(i)[d];
    }
    wrong_ranks += std::abs(above - rank[i]);
    CHECK(close_to(positive[i], own, scalar * 4), "row %ld: %g for %g", i, static_cast<double>(positive[i]), own);
    CHECK(close_to(log_sum_exp[i], row.log_sum_exp, scalar), "row %ld: %g for %g", i,
          static_cast<double>(log_sum_exp[i]), row.log_sum_exp);
    for (int64_t d = 0; d < c.dim; ++d) {
      query_error.add(grad_query[i * c.dim + d], factor * (row.expected[d] - key.row(i)[d]));
    }
  }
  for (int64_t i = 0; i < c.key_rows * c.dim; ++i) key_error.add(grad_key[i], to_key[i]);
  CHECK(close_to(loss, mean, scalar), "loss %g for %g", static_cast<double>(loss), mean);
  CHECK(wrong_ranks <= (tf32 ? c.rows / 8 + 1 : 0), "%ld ranks off", wrong_ranks);
  if (c.rows == 1 && c.key_rows == 1) return;  // gradients are zero
  const double tolerance = gradient_tolerance(dtype, tensor_cores, tf32);
  CHECK(key_error.value() < tolerance, "grad_key %g", key_error.value());
  if (c.query_gradient) CHECK(query_error.value() < tolerance, "grad_query %g", query_error.value());
}

// The first two run under sanitizers too: workers of the GPU that go from one row block to the next, in both passes.
inline constexpr size_t kFew = 2;
inline const Case kCases[] = {{70, 130, 16, true},      {70, 130, 16, true, true}, {0, 4, 3, true},
                              {1, 1, 1, true},          {3, 3, 7, true},           {5, 130, 32, true},
                              {70, 70, 33, true},       {66, 200, 128, true},      {0, 4, 3, true, true},
                              {9, 100, 300, false},     {130, 257, 40, true},      {130, 257, 40, true, true},
                              {9, 100, 300, true, true}};

}  // namespace pairwise_infonce_cases
