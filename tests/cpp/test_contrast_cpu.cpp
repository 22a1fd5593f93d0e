// The CPU launchers of queue_infonce and pixel_contrast against the dense formulas in double, for every SIMD target that
// this machine runs (each in a process of its own, since the target is chosen once), on one thread and on several.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "contrast/pixel_contrast.h"
#include "contrast/queue_infonce.h"
#include "dense.h"
#include "simd_targets.h"

namespace {

using namespace motionops;

using namespace dense;

template <typename T>
void test_queue(Dtype dtype, const Parallel& parallel, int64_t rows, int64_t queue_rows, int64_t extra_rows,
                int64_t dim) {
  constexpr double kTemperature = 0.2;
  const double tolerance = sizeof(T) == 8 ? 1e-12 : 2e-5;
  std::mt19937 generator(7);
  const Features query = random_features(dtype, rows, dim, generator);
  const Features key = random_features(dtype, rows, dim, generator);
  const Features queue = random_features(dtype, queue_rows, dim, generator);
  const Features extra = random_features(dtype, extra_rows, dim, generator);
  std::vector<int64_t> query_ids, queue_ids;
  for (int64_t i = 0; i < rows; ++i) query_ids.push_back(generator() % 5);
  for (int64_t j = 0; j < queue_rows; ++j) queue_ids.push_back(generator() % 5);

  T loss = NAN, grad_loss = 1;
  std::vector<int32_t> rank(rows, -1);
  std::vector<T> positive(rows, NAN), log_sum_exp(rows, NAN), expected(rows * dim, NAN);
  std::vector<T> grad_query(rows * dim, NAN), grad_key(rows * dim, NAN);
  queue_infonce_forward_cpu(
      {dtype, query.storage.data(), key.storage.data(), queue.storage.data(), extra.storage.data(), query_ids.data(),
       queue_ids.data(), rows, dim, queue_rows, extra_rows, kTemperature, false, &loss, rank.data(), positive.data(),
       log_sum_exp.data(), expected.data()},
      parallel);
  queue_infonce_backward_cpu(
      {dtype, query.storage.data(), key.storage.data(), &grad_loss, positive.data(), log_sum_exp.data(),
       expected.data(), rows, dim, kTemperature, grad_query.data(), grad_key.data()},
      parallel);

  double mean = 0;
  for (int64_t i = 0; i < rows; ++i) {
    std::vector<const double*> columns = {key.row(i)};
    for (int64_t j = 0; j < queue_rows; ++j) columns.push_back(queue.row(j));
    for (int64_t e = 0; e < extra_rows; ++e) columns.push_back(extra.row(e));
    const auto counts = [&](size_t n) {
      const int64_t j = static_cast<int64_t>(n) - 1;
      return j < 0 || j >= queue_rows || query_ids[i] != queue_ids[j];
    };
    const DenseRow dense(query.row(i), columns, dim, kTemperature, counts);
    const double own = dot(query.row(i), key.row(i), dim) / kTemperature;
    mean += (dense.log_sum_exp - own) / static_cast<double>(rows);
    int above = 0;
    for (size_t n = 1; n < columns.size(); ++n) {
      above += counts(n) && dot(query.row(i), columns[n], dim) / kTemperature > own;
    }
    CHECK(rank[i] == above, "rank %d, expected %d", rank[i], above);
    CHECK(close_to(log_sum_exp[i], dense.log_sum_exp, tolerance), "log_sum_exp of row %d", static_cast<int>(i));
    const double factor = 1 / (static_cast<double>(rows) * kTemperature);
    for (int64_t d = 0; d < dim; ++d) {
      const double to_query = factor * (dense.expected[d] - key.row(i)[d]);
      const double to_key = factor * (dense.probability[0] - 1) * query.row(i)[d];
      CHECK(close_to(grad_query[i * dim + d], to_query, tolerance), "%g, expected %g",
            static_cast<double>(grad_query[i * dim + d]), to_query);
      CHECK(close_to(grad_key[i * dim + d], to_key, tolerance), "%g, expected %g",
            static_cast<double>(grad_key[i * dim + d]), to_key);
    }
  }
  CHECK(close_to(loss, mean, tolerance), "%g, expected %g", static_cast<double>(loss), mean);
}

template <typename T>
void test_pixels(Dtype dtype, const Parallel& parallel, int64_t batch, int64_t frames, int64_t height, int64_t width,
                 int64_t dim, int64_t negative_rows, double radius = 1.1) {
  constexpr double kTemperature = 0.2;
  const double tolerance = sizeof(T) == 8 ? 1e-12 : 2e-5;
  std::mt19937 generator(11);
  const int64_t area = height * width, pixels = batch * frames * area;
  const Features query = random_features(dtype, pixels, dim, generator);
  const Features key = random_features(dtype, pixels, dim, generator);
  const Features negatives = random_features(dtype, negative_rows, dim, generator);
  std::vector<double> query_extent, key_extent;
  const auto mask = std::make_unique<bool[]>(batch * area);
  for (int64_t b = 0; b < batch; ++b) {
    for (const double edge : {0.0, 1.0, 0.0, 0.8, 0.1, 0.9}) query_extent.push_back(edge);
    for (const double edge : {0.0, 1.0, 1.0, 0.1, 0.8, 0.0}) key_extent.push_back(edge);
  }
  for (int64_t i = 0; i < batch * area; ++i) mask[i] = generator() % 3 != 0;

  T loss = NAN, grad_loss = 1;
  std::vector<T> all(pixels, NAN), positives(pixels, NAN), weight(pixels, NAN), difference(pixels * dim, NAN);
  std::vector<T> grad_query(pixels * dim, NAN), grad_key(pixels * dim, NAN);
  const PixelContrastPairs pairs{
      query_extent.data(), key_extent.data(), mask.get(), nullptr, batch, batch, frames, height, width, radius};
  pixel_contrast_forward_cpu(
      {dtype, query.storage.data(), key.storage.data(), negatives.storage.data(), pairs, dim, negative_rows,
       kTemperature, false, &loss, all.data(), positives.data(), weight.data(), difference.data()},
      parallel);
  pixel_contrast_backward_cpu(
      {dtype, query.storage.data(), key.storage.data(), pairs, dim, kTemperature, false, &grad_loss, all.data(),
       positives.data(), weight.data(), difference.data(), grad_query.data(), grad_key.data()},
      parallel);

  const auto place = [&](const std::vector<double>& extent, int64_t b, int64_t pixel, double& y, double& x) {
    const double* e = extent.data() + b * 6;
    y = e[2] + (static_cast<double>(pixel / width) + 0.5) * (e[3] - e[2]) / static_cast<double>(height);
    x = e[4] + (static_cast<double>(pixel % width) + 0.5) * (e[5] - e[4]) / static_cast<double>(width);
  };
  const auto diagonal = [&](const std::vector<double>& extent, int64_t b) {
    const double* e = extent.data() + b * 6;
    return std::hypot((e[3] - e[2]) / static_cast<double>(height), (e[5] - e[4]) / static_cast<double>(width));
  };
  const auto near = [&](int64_t row, int64_t column) {
    if (column >= pixels || row / area != column / area) return false;
    const int64_t b = row / area / frames;
    double y, x, key_y, key_x;
    place(query_extent, b, row % area, y, x);
    place(key_extent, b, column % area, key_y, key_x);
    const double scale = std::max(diagonal(query_extent, b), diagonal(key_extent, b));
    return mask[b * area + row % area] && std::hypot(y - key_y, x - key_x) / scale < radius;
  };

  std::vector<const double*> columns;
  for (int64_t n = 0; n < pixels; ++n) columns.push_back(key.row(n));
  for (int64_t n = 0; n < negative_rows; ++n) columns.push_back(negatives.row(n));
  std::vector<int64_t> rows, per_sample(batch);
  for (int64_t row = 0; row < pixels; ++row) {
    bool any = false;
    for (int64_t n = 0; n < pixels; ++n) any |= near(row, n);
    if (!any) continue;
    rows.push_back(row);
    ++per_sample[row / area / frames];
  }
  double samples = 0, total = 0;
  for (const int64_t count : per_sample) samples += count > 0;
  std::vector<double> to_query(pixels * dim), to_key(pixels * dim);
  for (const int64_t row : rows) {
    const DenseRow everything(query.row(row), columns, dim, kTemperature, [](size_t) { return true; });
    const DenseRow close(query.row(row), columns, dim, kTemperature,
                         [&](size_t n) { return near(row, static_cast<int64_t>(n)); });
    const double share = 1 / (samples * static_cast<double>(per_sample[row / area / frames]));
    total += share * (everything.log_sum_exp - close.log_sum_exp);
    for (int64_t d = 0; d < dim; ++d) {
      to_query[row * dim + d] = share / kTemperature * (everything.expected[d] - close.expected[d]);
      for (int64_t n = 0; n < pixels; ++n) {
        to_key[n * dim + d] +=
            share / kTemperature * (everything.probability[n] - close.probability[n]) * query.row(row)[d];
      }
    }
  }
  CHECK(rows.size() > 1 || pixels < 4, "too few rows to test anything");
  // A row that does not count has no gradient, whatever that of the loss is.
  const T infinite = std::numeric_limits<T>::infinity();
  std::vector<T> of_infinite(pixels * dim, NAN);
  pixel_contrast_backward_cpu(
      {dtype, query.storage.data(), key.storage.data(), pairs, dim, kTemperature, false, &infinite, all.data(),
       positives.data(), weight.data(), difference.data(), of_infinite.data(), nullptr},
      parallel);
  for (int64_t i = 0; i < pixels * dim; ++i) {
    const bool counts = std::binary_search(rows.begin(), rows.end(), i / dim);
    CHECK(counts || of_infinite[i] == 0, "row %d: %g", static_cast<int>(i / dim), static_cast<double>(of_infinite[i]));
  }
  CHECK(close_to(loss, total, tolerance), "%g, expected %g", static_cast<double>(loss), total);
  for (int64_t i = 0; i < pixels * dim; ++i) {
    CHECK(close_to(grad_query[i], to_query[i], tolerance), "%g, expected %g", static_cast<double>(grad_query[i]),
          to_query[i]);
    CHECK(close_to(grad_key[i], to_key[i], tolerance), "%g, expected %g", static_cast<double>(grad_key[i]), to_key[i]);
  }
}

template <typename T>
void test_all(Dtype dtype, const Parallel& parallel) {
  for (const int64_t dim : {1, 7, 33, 128}) {
    test_queue<T>(dtype, parallel, 3, 0, 0, dim);
    test_queue<T>(dtype, parallel, 1, 1, 1, dim);
    test_queue<T>(dtype, parallel, 70, 205, 3, dim);
  }
  test_queue<T>(dtype, parallel, 16, 5000, 0, 8);
  test_pixels<T>(dtype, parallel, 1, 1, 1, 1, 1, 0);
  test_pixels<T>(dtype, parallel, 2, 2, 3, 5, 9, 0);
  test_pixels<T>(dtype, parallel, 2, 1, 7, 7, 16, 130);
  test_pixels<T>(dtype, parallel, 1, 2, 11, 11, 5, 3, 0.8);  // positives in the second block of columns alone
}

}  // namespace

int main() {
  for_simd_targets([](const motionops::Parallel& parallel) {
    test_all<float>(Dtype::kFloat32, parallel);
    test_all<float>(Dtype::kBFloat16, parallel);
    test_all<float>(Dtype::kFloat16, parallel);
    test_all<double>(Dtype::kFloat64, parallel);
  });
  return finish("contrast on the CPU");
}
