// Random features in each element type, beside the double values that they stand for, and the softmax of a row of them
// over others in double. Shared by the tests of the CPU launchers and of the emulated ones.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "core/dtype.h"

namespace dense {

using namespace motionops;

// Rows of random features in one element type, and the double values that they stand for.
struct Features {
  std::vector<char> storage;
  std::vector<double> values;
  int64_t dim;
  const double* row(int64_t index) const { return values.data() + index * dim; }
};

inline Features random_features(Dtype dtype, int64_t rows, int64_t dim, std::mt19937& generator) {
  Features features;
  features.dim = dim;
  std::normal_distribution<double> normal(0.0, 1.0 / std::sqrt(static_cast<double>(dim)));
  for_dtype(dtype, [&]<typename T>() {
    features.storage.resize(rows * dim * sizeof(T));
    for (int64_t i = 0; i < rows * dim; ++i) {
      const T stored = narrow<T>(static_cast<Wide<T>>(normal(generator)));
      std::memcpy(features.storage.data() + i * sizeof(T), &stored, sizeof(T));
      features.values.push_back(widen(stored));
    }
  });
  return features;
}

inline double dot(const double* a, const double* b, int64_t dim) {
  double sum = 0;
  for (int64_t d = 0; d < dim; ++d) sum += a[d] * b[d];
  return sum;
}

// Softmax of one row over the columns for which counts(n) is true.
struct DenseRow {
  double log_sum_exp = 0;
  std::vector<double> probability;
  std::vector<double> expected;

  template <typename Counts>
  DenseRow(const double* row, const std::vector<const double*>& columns, int64_t dim, double temperature,
           Counts&& counts)
      : probability(columns.size()), expected(dim) {
    double sum = 0;
    for (size_t n = 0; n < columns.size(); ++n) {
      if (counts(n)) sum += probability[n] = std::exp(dot(row, columns[n], dim) / temperature);
    }
    log_sum_exp = std::log(sum);
    for (size_t n = 0; n < columns.size(); ++n) {
      probability[n] /= sum;
      for (int64_t d = 0; d < dim; ++d) expected[d] += probability[n] * columns[n][d];
    }
  }
};

// How far values are from their expectation as a whole, relative to its length.
struct RelativeError {
  double error = 0, length = 0;

  void add(double value, double expected) {
    error += (value - expected) * (value - expected);
    length += expected * expected;
  }
  double value() const { return error == 0 ? 0 : std::sqrt(error / length); }
};

// The error of gradients, relative to their length, that weights rounded to the operands' type allow.
inline double gradient_tolerance(Dtype dtype, bool tensor_cores, bool tf32) {
  if (dtype == Dtype::kFloat64) return 1e-12;
  if (tensor_cores && dtype == Dtype::kBFloat16) return 8e-3;
  if (tensor_cores && dtype == Dtype::kFloat16) return 1e-3;
  return tensor_cores && tf32 ? 4e-3 : 2e-5;
}

inline double scalar_tolerance(Dtype dtype, bool tf32) {
  if (dtype == Dtype::kFloat64) return 1e-12;
  return tf32 ? 4e-3 : 1e-5;
}

}  // namespace dense
