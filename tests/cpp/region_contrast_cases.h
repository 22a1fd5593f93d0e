// region_contrast in double, and the cases that the CPU and the CUDA launchers are compared with it on. The shares are
// computed here from the cells' corners, in another way than geometry/extent.h does.
#pragma once

#include <algorithm>

#include "check.h"
#include "contrast/region_contrast.h"
#include "dense.h"

namespace region_contrast_cases {

using namespace dense;
using motionops::Grid;

struct Case {
  int64_t batch, views;
  Grid query_grid, key_grid;
  int64_t dim;
  bool query_gradient;
  int64_t more_keys = 0;  // of other videos
};

// Extents [count, 3, 2] that overlap or not, mirrored along any axis.
inline std::vector<double> random_views(int64_t count, std::mt19937& generator) {
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  std::vector<double> extents(count * 6);
  for (double& edge : extents) edge = uniform(generator);
  return extents;
}

// The share of cell i of `query` that lies in cell j of `key`, cells in (t, y, x) order.
inline double share(const double* query, const Grid& query_grid, int64_t i, const double* key, const Grid& key_grid,
                    int64_t j) {
  double product = 1;
  for (int axis = 2; axis >= 0; --axis) {
    const int64_t n = query_grid.cells[axis], m = key_grid.cells[axis];
    const double step = (query[2 * axis + 1] - query[2 * axis]) / static_cast<double>(n);
    const double key_step = (key[2 * axis + 1] - key[2 * axis]) / static_cast<double>(m);
    const double a = query[2 * axis] + step * static_cast<double>(i % n);
    const double b = key[2 * axis] + key_step * static_cast<double>(j % m);
    const double common = std::min(std::max(a, a + step), std::max(b, b + key_step)) -
                          std::max(std::min(a, a + step), std::min(b, b + key_step));
    product *= std::max(common, 0.0) / std::fabs(step);
    i /= n;
    j /= m;
  }
  return product;
}

// `forward` and `backward` launch; T is the accumulation type.
template <typename T, typename Forward, typename Backward>
void run_case(Dtype dtype, const Case& c, bool tensor_cores, bool tf32, const Forward& forward,
              const Backward& backward) {
  constexpr double kTemperature = 0.2;
  std::mt19937 generator(static_cast<unsigned>(c.batch * 1000 + c.dim));
  const int64_t cells = c.query_grid.count(), key_cells = c.key_grid.count();
  const int64_t rows = c.batch * c.views * cells, key_batch = c.batch + c.more_keys, count = key_batch * key_cells;
  const Features query = random_features(dtype, rows, c.dim, generator);
  const Features key = random_features(dtype, count, c.dim, generator);
  const std::vector<double> query_extent = random_views(c.batch * c.views, generator);
  std::vector<double> key_extent = random_views(key_batch, generator);
  for (size_t axis = 0; axis < key_extent.size(); axis += 2) {  // over the middle, so that most query views meet it
    double &start = key_extent[axis], &end = key_extent[axis + 1];
    const bool mirrored = start > end;
    start = 0.4 * start + (mirrored ? 0.6 : 0.0);
    end = 0.4 * end + (mirrored ? 0.0 : 0.6);
  }
  T loss = NAN, grad_loss = 1.5;
  std::vector<T> log_sum_exp(rows, NAN), weight(rows, NAN), difference(rows * c.dim, NAN);
  std::vector<T> expected_query(count * c.dim, NAN);
  std::vector<T> grad_query(rows * c.dim, NAN), grad_key(count * c.dim, NAN);
  T* kept = c.query_gradient ? difference.data() : nullptr;
  const motionops::RegionPairs pairs{query_extent.data(), key_extent.data(), c.batch, key_batch, c.views,
                                     c.query_grid,        c.key_grid};
  forward(motionops::RegionContrastForward{dtype, query.storage.data(), key.storage.data(), pairs, c.dim, kTemperature,
                                           tf32, &loss, log_sum_exp.data(), weight.data(), kept,
                                           expected_query.data()});
  backward(motionops::RegionContrastBackward{
      dtype, query.storage.data(), key.storage.data(), pairs, c.dim, kTemperature, tf32, &grad_loss, log_sum_exp.data(),
      weight.data(), kept, expected_query.data(), c.query_gradient ? grad_query.data() : nullptr, grad_key.data()});

  std::vector<const double*> columns;
  for (int64_t j = 0; j < count; ++j) columns.push_back(key.row(j));
  const double scalar = scalar_tolerance(dtype, tf32), factor = grad_loss / (static_cast<double>(rows) * kTemperature);
  double mean = 0;
  RelativeError query_error, key_error;
  std::vector<double> to_key(count * c.dim);
  for (int64_t i = 0; i < rows; ++i) {
    const DenseRow row(query.row(i), columns, c.dim, kTemperature, [](size_t) { return true; });
    const int64_t view = i / cells, video = view / c.views;
    std::vector<double> target(count);
    double total = 0;
    for (int64_t j = 0; j < key_cells; ++j) {
      const int64_t column = video * key_cells + j;
      total += target[column] =
          share(query_extent.data() + view * 6, c.query_grid, i % cells, key_extent.data() + video * 6, c.key_grid, j);
      mean += target[column] * (row.log_sum_exp - dot(query.row(i), key.row(column), c.dim) / kTemperature) /
              static_cast<double>(rows);
    }
    CHECK(close_to(weight[i], total, dtype == Dtype::kFloat64 ? 1e-12 : 1e-6), "row %ld: weight %g for %g", i,
          static_cast<double>(weight[i]), total);
    CHECK(close_to(log_sum_exp[i], row.log_sum_exp, scalar), "row %ld: %g for %g", i,
          static_cast<double>(log_sum_exp[i]), row.log_sum_exp);
    std::vector<double> to_query(c.dim);
    for (int64_t j = 0; j < count; ++j) {
      const double coefficient = factor * (total * row.probability[j] - target[j]);
      for (int64_t d = 0; d < c.dim; ++d) {
        to_query[d] += coefficient * key.row(j)[d];
        to_key[j * c.dim + d] += coefficient * query.row(i)[d];
      }
    }
    for (int64_t d = 0; d < c.dim; ++d) query_error.add(grad_query[i * c.dim + d], to_query[d]);
  }
  for (int64_t i = 0; i < count * c.dim; ++i) key_error.add(grad_key[i], to_key[i]);
  CHECK(mean > 0 || rows < 64, "the views do not overlap, which tests little");
  CHECK(close_to(loss, mean, scalar), "loss %g for %g", static_cast<double>(loss), mean);
  if (count <= 1) return;  // gradients are zero
  const double tolerance = gradient_tolerance(dtype, tensor_cores, tf32);
  CHECK(key_error.value() < tolerance, "grad_key %g", key_error.value());
  if (c.query_gradient) CHECK(query_error.value() < tolerance, "grad_query %g", query_error.value());
}

// The first two run under sanitizers too: workers of the GPU that go from one row block to the next; more cells in a video
// than its merge takes at once. The last also has more rows than that has threads.
inline const Case kCases[] = {
    {3, 3, {{2, 2, 2}}, {{2, 2, 6}}, 16, true},   {1, 1, {{1, 1, 2}}, {{3, 6, 8}}, 16, true},
    {0, 2, {{1, 2, 2}}, {{1, 1, 1}}, 3, true, 2}, {2, 0, {{1, 2, 2}}, {{1, 2, 1}}, 3, true},
    {1, 1, {{1, 1, 1}}, {{1, 1, 1}}, 1, true},    {3, 2, {{2, 3, 3}}, {{3, 4, 4}}, 33, true, 4},
    {2, 3, {{2, 4, 5}}, {{4, 5, 4}}, 128, true},  {2, 1, {{1, 5, 7}}, {{2, 3, 3}}, 300, false},
    {2, 2, {{2, 5, 7}}, {{4, 6, 7}}, 24, true},   {2, 2, {{1, 2, 2}}, {{2, 2, 2}}, 16, true},
};

}  // namespace region_contrast_cases
