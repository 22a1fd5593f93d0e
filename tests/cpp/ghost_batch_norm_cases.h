// ghost_batch_norm in double, by its formulas in several passes, and the cases that the launchers are compared with it on.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "check.h"
#include "core/dtype.h"
#include "layers/ghost_batch_norm.h"

namespace ghost_batch_norm_cases {

using motionops::Dtype;
using motionops::GhostBatchNormBackward;
using motionops::GhostBatchNormForward;

struct Case {
  std::vector<int64_t> groups;
  int64_t positions, channels;
  bool residual, relu;
  int64_t offset = 0;  // of the arrays, in elements
};

// What both passes shall give.
struct Expected {
  std::vector<double> output, mean, var, grad_input, grad_residual, grad_weight, grad_bias;
};

// An array of T, allocated to the byte, so that reading or writing past it is seen, and its values in double.
template <typename T>
struct Array {
  std::unique_ptr<T[]> memory;
  T* data;
  std::vector<double> values;

  Array(int64_t size, int64_t offset) : memory(new T[offset + size]), data(memory.get() + offset), values(size) {}

  Array(int64_t size, int64_t offset, std::mt19937& generator, double mean, double deviation) : Array(size, offset) {
    std::normal_distribution<double> normal(mean, deviation);
    for (int64_t i = 0; i < size; ++i) {
      data[i] = motionops::narrow<T>(static_cast<motionops::Wide<T>>(normal(generator)));
      values[i] = motionops::widen(data[i]);
    }
  }
};

inline Expected expected(const Case& c, const std::vector<double>& input, const std::vector<double>& residual,
                         const std::vector<double>& weight, const std::vector<double>& bias, double eps,
                         const std::vector<double>& rounded_output, const std::vector<double>& grad) {
  const int64_t channels = c.channels;
  Expected result;
  result.output.resize(input.size());
  result.grad_input.resize(input.size());
  result.grad_residual.resize(input.size());
  result.grad_weight.resize(channels);
  result.grad_bias.resize(channels);
  int64_t row = 0;
  for (const int64_t samples : c.groups) {
    const int64_t rows = samples * c.positions;
    for (int64_t channel = 0; channel < channels; ++channel) {
      const auto at = [&](int64_t r) { return (row + r) * channels + channel; };
      double mean = 0, var = 0, total = 0, moment = 0;
      for (int64_t r = 0; r < rows; ++r) mean += input[at(r)] / static_cast<double>(rows);
      for (int64_t r = 0; r < rows; ++r) var += std::pow(input[at(r)] - mean, 2) / static_cast<double>(rows);
      const double inverse = 1 / std::sqrt(var + eps);
      for (int64_t r = 0; r < rows; ++r) {
        double z = (input[at(r)] - mean) * inverse * weight[channel] + bias[channel];
        if (c.residual) z += residual[at(r)];
        result.output[at(r)] = c.relu ? std::max(z, 0.0) : z;
        // What ReLU lets through is asked of the launcher's own result: near 0 rounding decides.
        const double dz = c.relu && !(rounded_output[at(r)] > 0) ? 0.0 : grad[at(r)];
        result.grad_residual[at(r)] = dz;
        total += dz;
        moment += dz * (input[at(r)] - mean) * inverse;
      }
      for (int64_t r = 0; r < rows; ++r) {
        const double normalised = (input[at(r)] - mean) * inverse;
        result.grad_input[at(r)] = weight[channel] * inverse *
                                   (result.grad_residual[at(r)] - total / static_cast<double>(rows) -
                                    normalised * moment / static_cast<double>(rows));
      }
      result.mean.push_back(mean);
      result.var.push_back(var);
      result.grad_weight[channel] += moment;
      result.grad_bias[channel] += total;
    }
    row += rows;
  }
  return result;
}

template <typename T>
void compare(const char* name, const T* found, const std::vector<double>& wanted, double tolerance) {
  double most = 1;
  for (const double value : wanted) most = std::max(most, std::fabs(value));
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double got = motionops::widen(found[i]);
    CHECK(std::fabs(got - wanted[i]) <= tolerance * most, "%s %d: %g instead of %g", name, static_cast<int>(i), got,
          wanted[i]);
  }
}

template <typename T, typename Forward, typename Backward>
void run_case(Dtype dtype, const Case& c, double tolerance, const Forward& forward, const Backward& backward) {
  using W = motionops::Wide<T>;
  std::mt19937 generator(7);
  const int64_t samples = std::accumulate(c.groups.begin(), c.groups.end(), int64_t{0});
  const int64_t size = samples * c.positions * c.channels, groups = static_cast<int64_t>(c.groups.size());
  const double eps = 1e-3;
  Array<T> input(size, c.offset, generator, 2, 1.5), residual(size, c.offset, generator, 0, 1);
  Array<T> grad(size, c.offset, generator, 0.5, 1), output(size, c.offset);
  Array<T> grad_input(size, c.offset), grad_residual(size, c.offset);
  Array<W> weight(c.channels, 0, generator, 1, 0.3), bias(c.channels, 0, generator, 0, 1);
  Array<W> mean(groups * c.channels, 0), var(groups * c.channels, 0), grad_weight(c.channels, 0);
  Array<W> grad_bias(c.channels, 0);

  GhostBatchNormForward there{};
  there.dtype = dtype;
  there.input = input.data;
  there.residual = c.residual ? residual.data : nullptr;
  there.weight = weight.data;
  there.bias = bias.data;
  there.output = output.data;
  there.mean = mean.data;
  there.var = var.data;
  there.groups = c.groups.data();
  there.group_count = groups;
  there.positions = c.positions;
  there.channels = c.channels;
  there.eps = eps;
  there.relu = c.relu;
  forward(there);

  const bool masked = c.residual && c.relu;
  GhostBatchNormBackward back{};
  back.dtype = dtype;
  back.grad_output = grad.data;
  back.input = input.data;
  back.output = masked ? output.data : nullptr;
  back.weight = weight.data;
  back.bias = bias.data;
  back.mean = mean.data;
  back.var = var.data;
  back.grad_input = grad_input.data;
  back.grad_residual = masked ? grad_residual.data : nullptr;
  back.grad_weight = grad_weight.data;
  back.grad_bias = grad_bias.data;
  back.groups = c.groups.data();
  back.group_count = groups;
  back.positions = c.positions;
  back.channels = c.channels;
  back.eps = eps;
  back.relu = c.relu;
  backward(back);

  std::vector<double> rounded(size);
  for (int64_t i = 0; i < size; ++i) rounded[i] = motionops::widen(output.data[i]);
  const Expected wanted =
      expected(c, input.values, residual.values, weight.values, bias.values, eps, rounded, grad.values);
  const double sums = dtype == Dtype::kFloat64 ? 1e-12 : 1e-4;
  compare("output", output.data, wanted.output, tolerance);
  compare("mean", mean.data, wanted.mean, sums);
  compare("var", var.data, wanted.var, sums);
  compare("grad_input", grad_input.data, wanted.grad_input, tolerance);
  compare("grad_weight", grad_weight.data, wanted.grad_weight, sums);
  compare("grad_bias", grad_bias.data, wanted.grad_bias, sums);
  if (masked) compare("grad_residual", grad_residual.data, wanted.grad_residual, 0);
}

// forward(args) and backward(args) start the launchers under test; `few` is for the sanitizers, where a CUDA thread costs
// most.
template <typename Forward, typename Backward>
void run_all(bool few, const Forward& forward, const Backward& backward) {
  // Where 16 bytes are loaded at once and where not, by channels, rows and alignment; one tile of columns and several.
  std::vector<Case> cases{{{2, 1}, 3, 16, true, true}, {{3}, 4, 5, false, true}, {{1, 2}, 2, 600, true, false}};
  if (!few) {
    for (const bool residual : {false, true}) {
      for (const bool relu : {false, true}) {
        cases.insert(cases.end(), {{{1}, 1, 1, residual, relu},
                                   {{2, 3}, 3, 7, residual, relu},
                                   {{4, 2}, 4, 3, residual, relu},
                                   {{2, 2}, 5, 8, residual, relu, 1},
                                   {{1, 1, 1}, 700, 16, residual, relu},
                                   {{3}, 1500, 1, residual, relu},
                                   {{2}, 3, 1160, residual, relu}});
      }
    }
    cases.push_back({std::vector<int64_t>(500, 1), 2, 3, true, true});
  }
  for (const Case& c : cases) {
    run_case<motionops::BFloat16>(Dtype::kBFloat16, c, 6e-3, forward, backward);
    if (few) continue;
    run_case<float>(Dtype::kFloat32, c, 2e-5, forward, backward);
    run_case<double>(Dtype::kFloat64, c, 1e-12, forward, backward);
    run_case<motionops::Float16>(Dtype::kFloat16, c, 8e-4, forward, backward);
  }
}

}  // namespace ghost_batch_norm_cases
