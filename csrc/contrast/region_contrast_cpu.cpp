// region_contrast on the CPU: the streaming softmax over all cells, and the targets of a video's rows beside it.
#include "contrast/region_contrast.h"

#include <algorithm>
#include <array>
#include <vector>

#include "contrast/stored_features_cpu.h"
#include "contrast/streaming_softmax_cpu.h"

namespace motionops {
namespace {

template <typename T>
std::vector<T> overlap_tables(const RegionPairs& pairs, const Parallel& parallel) {
  const int64_t size = pairs.table_size();
  std::vector<T> tables(pairs.batch * pairs.views * size);
  parallel.run(0, static_cast<int64_t>(tables.size()), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t place = begin; place < end; ++place) {
      tables[place] = static_cast<T>(pairs.table_value(place / size, place % size));
    }
  });
  return tables;
}

// Calls visit(column, share) for the key cells of its own video that row `row` overlaps.
template <typename T, typename Visit>
void for_targets(const RegionPairs& pairs, const std::vector<T>& tables, int64_t row, const Visit& visit) {
  const int64_t cells = pairs.query_grid.count();
  const int64_t view = row / cells;
  const T* table = tables.data() + view * pairs.table_size();
  const T* along[kExtentAxes];
  for (int axis = 0; axis < kExtentAxes; ++axis) along[axis] = pairs.overlaps(table, axis, row % cells);
  const int64_t* grid = pairs.key_grid.cells;
  int64_t column = view / pairs.views * pairs.key_grid.count();
  for (int64_t t = 0; t < grid[0]; ++t) {
    for (int64_t y = 0; y < grid[1]; ++y, column += grid[2]) {
      const T part = along[0][t] * along[1][y];
      if (part == 0) continue;
      for (int64_t x = 0; x < grid[2]; ++x) {
        if (along[2][x] != 0) visit(column + x, part * along[2][x]);
      }
    }
  }
}

template <typename T>
void forward(const RegionContrastForward& args, const Parallel& parallel) {
  const RegionPairs& pairs = args.pairs;
  const int64_t rows = pairs.rows();
  const int64_t dim = args.dim;
  T* difference = static_cast<T*>(args.expected_difference);
  const std::array<FeatureRows, 1> columns = {FeatureRows{args.key, args.dtype, pairs.columns(), nullptr}};
  std::vector<T> maximum(rows);
  std::vector<T> log_sum(rows);
  StreamingSoftmax<T> problem;
  const ProductFeatures<T> queries(args.query, args.types.query, rows * dim, args.dtype, parallel);
  problem.rows = queries.rows(rows);
  problem.columns = columns;
  problem.dim = dim;
  problem.scale = static_cast<T>(1.0 / args.temperature.value);
  problem.maximum = maximum.data();
  problem.log_sum = log_sum.data();
  problem.expected = difference;
  problem.expected_row = static_cast<T*>(args.expected_query);
  const std::vector<T> tables = overlap_tables<T>(pairs, parallel);
  // Ahead of the targets themselves, which need the keys as well: the expected queries are weighted by it.
  T* weight = static_cast<T*>(args.weight);
  parallel.run(0, rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      weight[row] = 0;
      for_targets(pairs, tables, row, [&](int64_t, T share) { weight[row] += share; });
    }
  });
  problem.row_weight = weight;
  streaming_softmax(problem, parallel);

  std::vector<double> row_loss(rows);
  parallel.run(0, rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<T> target(dim), widened(dim);
    for (int64_t row = begin; row < end; ++row) {
      std::fill(target.begin(), target.end(), T(0));
      for_targets(pairs, tables, row, [&](int64_t column, T share) {
        const T* key = feature_row<T>(columns[0], column, dim, widened.data());
        for (int64_t d = 0; d < dim; ++d) target[d] += share * key[d];
      });
      const T* query = feature_row<T>(problem.rows, row, dim, widened.data());
      double logit = 0;
      for (int64_t d = 0; d < dim; ++d) {
        logit += static_cast<double>(query[d]) * target[d];
      }
      if (difference != nullptr) {
        T* of_row = difference + row * dim;
        for (int64_t d = 0; d < dim; ++d) of_row[d] = weight[row] * of_row[d] - target[d];
      }
      static_cast<T*>(args.log_sum_exp)[row] = maximum[row] + log_sum[row];
      row_loss[row] = weight[row] * (static_cast<double>(maximum[row]) + static_cast<double>(log_sum[row])) -
                      logit / args.temperature.value;
    }
  });
  double total = 0;
  for (const double loss : row_loss) total += loss;
  *static_cast<T*>(args.loss) = rows == 0 ? T(0) : static_cast<T>(total / static_cast<double>(rows));
}

template <typename T>
void backward(const RegionContrastBackward& args, const Parallel& parallel) {
  const RegionPairs& pairs = args.pairs;
  const int64_t rows = pairs.rows();
  const int64_t dim = args.dim;
  const double share_of_row = rows == 0 ? 0.0
                                        : static_cast<double>(stored_scalar<T>(args.grad_loss, args.types.grad_loss)) /
                                              static_cast<double>(rows);
  const T factor = static_cast<T>(share_of_row / args.temperature.value);
  if (args.grad_query != nullptr) {
    const T* difference = static_cast<const T*>(args.expected_difference);
    StoredGradient<T> of_query(args.grad_query, args.types.grad_query, rows * dim);
    T* gradient = of_query.sums();
    parallel.run(0, rows * dim, kValuesPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t place = begin; place < end; ++place) gradient[place] = factor * difference[place];
    });
    of_query.store(parallel);
  }
  if (args.grad_key == nullptr) return;
  StoredGradient<T> of_key(args.grad_key, args.types.grad_key, pairs.columns() * dim);
  T* gradient = of_key.sums();
  const T* expected = static_cast<const T*>(args.expected_query);
  parallel.run(0, pairs.columns() * dim, kValuesPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t place = begin; place < end; ++place) gradient[place] = factor * expected[place];
  });
  const ProductFeatures<T> queries(args.query, args.types.query, rows * dim, args.dtype, parallel);
  const std::vector<T> tables = overlap_tables<T>(pairs, parallel);
  const int64_t of_video = pairs.rows_of_video();
  parallel.run(0, pairs.batch, 1, [&](int64_t begin, int64_t end) {
    std::vector<T> widened(dim);
    for (int64_t row = begin * of_video; row < end * of_video; ++row) {
      const T* query = feature_row<T>(queries.rows(rows), row, dim, widened.data());
      for_targets(pairs, tables, row, [&](int64_t column, T share) {
        T* to = gradient + column * dim;
        for (int64_t d = 0; d < dim; ++d) to[d] -= factor * share * query[d];
      });
    }
  });
  of_key.store(parallel);
}

}  // namespace

void region_contrast_forward_cpu(const RegionContrastForward& args, const Parallel& parallel) {
  if (args.dtype == Dtype::kFloat64) {
    forward<double>(args, parallel);
  } else {
    forward<float>(args, parallel);
  }
}

void region_contrast_backward_cpu(const RegionContrastBackward& args, const Parallel& parallel) {
  if (args.dtype == Dtype::kFloat64) {
    backward<double>(args, parallel);
  } else {
    backward<float>(args, parallel);
  }
}

}  // namespace motionops
