// Random features in each element type, beside the double values that they stand for.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "core/dtype.h"

struct Features {
  int64_t rows = 0, dim = 0;
  std::unique_ptr<unsigned char[]> storage;  // allocated to the byte, so that reading past it is seen
  std::vector<double> values;                // [rows, dim]

  const void* data() const { return rows == 0 ? nullptr : storage.get(); }
  const double* row(int64_t index) const { return values.data() + index * dim; }
};

// Rows of a normal distribution, of length about `length`.
inline Features random_features(motionops::Dtype dtype, int64_t rows, int64_t dim, double length,
                                std::mt19937& generator) {
  using motionops::Dtype;
  const size_t bytes = dtype == Dtype::kFloat32 ? 4 : 2;
  Features features;
  features.rows = rows;
  features.dim = dim;
  features.storage = std::make_unique<unsigned char[]>(rows * dim * bytes);
  features.values.resize(rows * dim);
  std::normal_distribution<double> normal(0.0, length / std::sqrt(static_cast<double>(dim)));
  for (int64_t i = 0; i < rows * dim; ++i) {
    const auto value = static_cast<float>(normal(generator));
    unsigned char* place = features.storage.get() + i * bytes;
    const auto keep = [&](auto stored, float represented) {
      std::memcpy(place, &stored, sizeof(stored));
      features.values[i] = represented;
    };
    const __nv_bfloat16 bfloat16 = __float2bfloat16_rn(value);
    const __half half = __float2half_rn(value);
    if (dtype == Dtype::kFloat32) keep(value, value);
    if (dtype == Dtype::kBFloat16) keep(bfloat16, __bfloat162float(bfloat16));
    if (dtype == Dtype::kFloat16) keep(half, __half2float(half));
  }
  return features;
}

inline double dot(const double* a, const double* b, int64_t dim) {
  double sum = 0;
  for (int64_t d = 0; d < dim; ++d) sum += a[d] * b[d];
  return sum;
}

// Error of gradients and expectations, relative to their length, that weights rounded to the operand type allow.
inline double vector_tolerance(motionops::Dtype dtype, bool tf32) {
  using motionops::Dtype;
  if (dtype == Dtype::kBFloat16) return 4e-3;
  if (dtype == Dtype::kFloat16) return 5e-4;
  return tf32 ? 2e-3 : 4e-6;
}

inline double scalar_tolerance(bool tf32) { return tf32 ? 4e-3 : 4e-6; }

struct RelativeError {
  double error = 0, length = 0;

  void add(double value, double expected) {
    error += (value - expected) * (value - expected);
    length += expected * expected;
  }
  double value() const { return error == 0 ? 0 : std::sqrt(error / length); }
};
