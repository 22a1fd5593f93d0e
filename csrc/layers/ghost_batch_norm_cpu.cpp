// Parallel over groups and over chunks of their rows. A chunk's statistics are merged in the order of the chunks, whose
// length does not depend on the number of threads: neither does the result.
#include <algorithm>
#include <cmath>
#include <vector>

#include "core/simd_target.h"
#include "layers/ghost_batch_norm.h"

namespace motionops {
namespace {

constexpr int64_t kChunk = 32768;  // elements: 128 kB of float32, which the second-level cache keeps for the next pass
constexpr int64_t kShortest = 64;  // elements of a row, where several positions can be taken as one

// What tells where ReLU has let a value through.
enum class Mask { kNone, kRecomputed, kOutput };

#define MOTIONOPS_SIMD_FILE "layers/ghost_batch_norm_cpu.inl"
#include "core/simd_targets.inl"

struct Chunk {
  int64_t group, first, rows;  // the first row, from the start of the input
};

// The groups as rows, and the rows as chunks.
struct Plan {
  int64_t channels, width;
  std::vector<Chunk> chunks;
  std::vector<double> counts;  // values of a channel in each group

  template <typename Args>
  explicit Plan(const Args& args) : channels(args.channels), width(args.channels) {
    const auto divides = [&](int64_t positions) {
      return std::all_of(args.groups, args.groups + args.group_count,
                         [&](int64_t samples) { return samples * args.positions % positions == 0; });
    };
    while (width < kShortest && divides(2 * width / channels)) width *= 2;
    const int64_t most = std::max<int64_t>(1, kChunk / width);
    int64_t row = 0;
    for (int64_t group = 0; group < args.group_count; ++group) {
      const int64_t rows = args.groups[group] * args.positions * channels / width;
      for (int64_t first = 0; first < rows; first += most) {
        chunks.push_back({group, row + first, std::min(most, rows - first)});
      }
      row += rows;
      counts.push_back(static_cast<double>(args.groups[group] * args.positions));
    }
  }

  template <typename Body>
  void each_chunk(const Parallel& parallel, const Body& body) const {
    parallel.run(0, static_cast<int64_t>(chunks.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t index = begin; index < end; ++index) body(index, chunks[index]);
    });
  }
};

// An array [C], or the group's row of [G, C], along a row.
template <typename W>
std::vector<W> along_row(const W* values, const Plan& plan, W otherwise = 0) {
  std::vector<W> row(plan.width, otherwise);
  if (values != nullptr) {
    for (int64_t i = 0; i < plan.width; ++i) row[i] = values[i % plan.channels];
  }
  return row;
}

template <typename W>
std::vector<W> scale_along_row(const W* weight, const W* var, double eps, const Plan& plan) {
  std::vector<W> scale = along_row(weight, plan, W{1});
  for (int64_t i = 0; i < plan.width; ++i) {
    scale[i] *= W{1} / std::sqrt(var[i % plan.channels] + static_cast<W>(eps));
  }
  return scale;
}

// Two rows for each chunk.
template <typename W>
struct Partials {
  std::vector<W> first, second;
  explicit Partials(const Plan& plan) : first(plan.chunks.size() * plan.width), second(first.size()) {}
};

template <typename W>
void merge_moments(const Partials<W>& partials, const Plan& plan, const std::vector<W>& common, W* mean, W* var) {
  std::vector<double> counts(plan.counts.size() * plan.channels), means(counts.size()), squares(counts.size());
  for (size_t index = 0; index < plan.chunks.size(); ++index) {
    const auto count = static_cast<double>(plan.chunks[index].rows);
    for (int64_t i = 0; i < plan.width; ++i) {
      const int64_t at = plan.chunks[index].group * plan.channels + i % plan.channels;
      const double distance = static_cast<double>(partials.first[index * plan.width + i]) - means[at];
      const double share = count / (counts[at] + count);
      means[at] += distance * share;
      squares[at] +=
          static_cast<double>(partials.second[index * plan.width + i]) + distance * distance * counts[at] * share;
      counts[at] += count;
    }
  }
  for (size_t at = 0; at < counts.size(); ++at) {
    mean[at] = static_cast<W>(static_cast<double>(common[at]) + means[at]);
    var[at] = static_cast<W>(squares[at] / counts[at]);
  }
}

template <typename T>
void forward(const GhostBatchNormForward& args, const Parallel& parallel) {
  using W = Wide<T>;
  const Plan plan(args);
  const auto* input = static_cast<const T*>(args.input);
  auto* mean = static_cast<W*>(args.mean);
  auto* var = static_cast<W*>(args.var);
  // Means are counted from the group's first values until they are merged: so they keep their digits far from zero.
  std::vector<W> common(args.group_count * plan.channels);
  for (int64_t group = 0, sample = 0; group < args.group_count; sample += args.groups[group++]) {
    const T* first = input + sample * args.positions * plan.channels;
    for (int64_t c = 0; c < plan.channels; ++c) common[group * plan.channels + c] = widen(first[c]);
  }
  Partials<W> partials(plan);
  plan.each_chunk(parallel, [&](int64_t index, const Chunk& chunk) {
    const std::vector<W> origin = along_row<W>(common.data() + chunk.group * plan.channels, plan);
    MOTIONOPS_SIMD_CALL(moments_of_rows<T>(input + chunk.first * plan.width, chunk.rows, plan.width, origin.data(),
                                           partials.first.data() + index * plan.width,
                                           partials.second.data() + index * plan.width));
  });
  merge_moments(partials, plan, common, mean, var);
  const std::vector<W> bias = along_row(static_cast<const W*>(args.bias), plan);
  plan.each_chunk(parallel, [&](int64_t, const Chunk& chunk) {
    const W* group_mean = mean + chunk.group * plan.channels;
    const std::vector<W> center = along_row(group_mean, plan);
    const std::vector<W> scale =
        scale_along_row(static_cast<const W*>(args.weight), var + chunk.group * plan.channels, args.eps, plan);
    const int64_t at = chunk.first * plan.width;
    const auto* residual = static_cast<const T*>(args.residual);
    T* output = static_cast<T*>(args.output) + at;
    if (residual != nullptr) {
      if (args.relu) {
        MOTIONOPS_SIMD_CALL(normalise_rows<T, true, true>(input + at, residual + at, output, chunk.rows, plan.width,
                                                          center.data(), scale.data(), bias.data()));
      } else {
        MOTIONOPS_SIMD_CALL(normalise_rows<T, true, false>(input + at, residual + at, output, chunk.rows, plan.width,
                                                           center.data(), scale.data(), bias.data()));
      }
    } else if (args.relu) {
      MOTIONOPS_SIMD_CALL(normalise_rows<T, false, true>(input + at, nullptr, output, chunk.rows, plan.width,
                                                         center.data(), scale.data(), bias.data()));
    } else {
      MOTIONOPS_SIMD_CALL(normalise_rows<T, false, false>(input + at, nullptr, output, chunk.rows, plan.width,
                                                          center.data(), scale.data(), bias.data()));
    }
  });
}

template <typename T, Mask kMask>
void backward(const GhostBatchNormBackward& args, const Parallel& parallel) {
  using W = Wide<T>;
  const Plan plan(args);
  const auto* input = static_cast<const T*>(args.input);
  const auto* weight = static_cast<const W*>(args.weight);
  const auto* mean = static_cast<const W*>(args.mean);
  const auto* var = static_cast<const W*>(args.var);
  const auto at_or_null = [](auto* pointer, int64_t at) { return pointer == nullptr ? nullptr : pointer + at; };
  const std::vector<W> bias = along_row(static_cast<const W*>(args.bias), plan);

  Partials<W> partials(plan);
  plan.each_chunk(parallel, [&](int64_t index, const Chunk& chunk) {
    const std::vector<W> center = along_row(mean + chunk.group * plan.channels, plan);
    const std::vector<W> scale = scale_along_row(weight, var + chunk.group * plan.channels, args.eps, plan);
    const int64_t at = chunk.first * plan.width;
    MOTIONOPS_SIMD_CALL(sums_of_rows<T, kMask>(
        static_cast<const T*>(args.grad_output) + at, input + at, at_or_null(static_cast<const T*>(args.output), at),
        at_or_null(static_cast<T*>(args.grad_residual), at), chunk.rows, plan.width, center.data(), scale.data(),
        bias.data(), partials.first.data() + index * plan.width, partials.second.data() + index * plan.width));
  });

  const int64_t groups = args.group_count, channels = plan.channels;
  std::vector<double> totals(groups * channels), moments(groups * channels);
  for (size_t index = 0; index < plan.chunks.size(); ++index) {
    for (int64_t i = 0; i < plan.width; ++i) {
      const int64_t at = plan.chunks[index].group * channels + i % channels;
      totals[at] += static_cast<double>(partials.first[index * plan.width + i]);
      moments[at] += static_cast<double>(partials.second[index * plan.width + i]);
    }
  }
  std::vector<W> slopes(groups * channels), offsets(groups * channels);
  for (int64_t c = 0; c < channels; ++c) {
    double grad_weight = 0, grad_bias = 0;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t at = g * channels + c;
      const double inverse = 1 / std::sqrt(static_cast<double>(var[at]) + args.eps);
      const double scale = (weight == nullptr ? 1.0 : static_cast<double>(weight[c])) * inverse;
      slopes[at] = static_cast<W>(-scale * inverse * inverse * moments[at] / plan.counts[g]);
      offsets[at] = static_cast<W>(-scale * totals[at] / plan.counts[g]);
      grad_weight += moments[at] * inverse;
      grad_bias += totals[at];
    }
    static_cast<W*>(args.grad_weight)[c] = static_cast<W>(grad_weight);
    static_cast<W*>(args.grad_bias)[c] = static_cast<W>(grad_bias);
  }

  constexpr Mask kLeft = kMask == Mask::kOutput ? Mask::kNone : kMask;
  const auto* grad = static_cast<const T*>(kMask == Mask::kOutput ? args.grad_residual : args.grad_output);
  plan.each_chunk(parallel, [&](int64_t, const Chunk& chunk) {
    const int64_t of_group = chunk.group * channels, at = chunk.first * plan.width;
    const std::vector<W> center = along_row(mean + of_group, plan);
    const std::vector<W> scale = scale_along_row(weight, var + of_group, args.eps, plan);
    const std::vector<W> slope = along_row<W>(slopes.data() + of_group, plan);
    const std::vector<W> offset = along_row<W>(offsets.data() + of_group, plan);
    MOTIONOPS_SIMD_CALL(grad_input_of_rows<T, kLeft>(grad + at, input + at, static_cast<T*>(args.grad_input) + at,
                                                     chunk.rows, plan.width, center.data(), scale.data(), bias.data(),
                                                     slope.data(), offset.data()));
  });
}

template <typename Args>
bool is_empty(const Args& args) {
  return args.group_count == 0 || args.positions == 0 || args.channels == 0;
}

}  // namespace

void ghost_batch_norm_forward_cpu(const GhostBatchNormForward& args, const Parallel& parallel) {
  if (is_empty(args)) return;
  for_dtype(args.dtype, [&]<typename T>() { forward<T>(args, parallel); });
}

void ghost_batch_norm_backward_cpu(const GhostBatchNormBackward& args, const Parallel& parallel) {
  if (is_empty(args)) return;
  for_dtype(args.dtype, [&]<typename T>() {
    if (!args.relu) {
      backward<T, Mask::kNone>(args, parallel);
    } else if (args.output != nullptr) {
      backward<T, Mask::kOutput>(args, parallel);
    } else {
      backward<T, Mask::kRecomputed>(args, parallel);
    }
  });
}

}  // namespace motionops
