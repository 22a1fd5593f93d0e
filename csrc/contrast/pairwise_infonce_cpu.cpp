// pairwise_infonce on the CPU: the streaming softmax with an own column, which is not counted again among the keys.
#include "contrast/pairwise_infonce.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "contrast/same_video_cpu.h"
#include "contrast/stored_features_cpu.h"
#include "contrast/streaming_softmax_cpu.h"

namespace motionops {
namespace {

// Query i and key i do not meet among the columns: the positive is taken by itself. Nor do those of one video.
template <typename T>
class OtherRows final : public ColumnPolicy<T> {
 public:
  explicit OtherRows(const PairwiseInfonceForward& args)
      : query_ids_(args.query_ids),
        key_ids_(args.key_ids),
        queries_(args.query_ids, args.rows),
        keys_(args.key_ids, args.key_rows) {}

  void exclude(const LogitTile<T>& tile) const override {
    const int64_t begin = std::max(tile.row_begin, tile.column_begin);
    const int64_t end = std::min(tile.row_begin + tile.rows, tile.column_begin + tile.columns);
    for (int64_t i = begin; i < end; ++i) {
      tile.logits[(i - tile.column_begin) * tile.stride + (i - tile.row_begin)] = -std::numeric_limits<T>::infinity();
    }
    if (query_ids_ == nullptr) return;
    const RowVideos& rows = tile.transposed ? keys_ : queries_;
    rows.strike_out(tile, tile.transposed ? query_ids_ : key_ids_, tile.columns);
  }

 private:
  const int64_t* query_ids_;
  const int64_t* key_ids_;
  RowVideos queries_, keys_;
};

template <typename T>
void forward(const PairwiseInfonceForward& args, const Parallel& parallel) {
  const std::array<FeatureRows, 1> columns = {FeatureRows{args.key, args.dtype, args.key_rows, nullptr}};
  const OtherRows<T> policy(args);
  std::vector<T> maximum(args.rows);
  std::vector<T> log_sum(args.rows);
  StreamingSoftmax<T> problem;
  const ProductFeatures<T> query(args.query, args.types.query, args.rows * args.dim, args.dtype, parallel);
  problem.rows = query.rows(args.rows);
  problem.own = {args.key, args.dtype, args.rows, nullptr};
  problem.columns = columns;
  problem.dim = args.dim;
  problem.scale = static_cast<T>(1.0 / args.temperature.value);
  problem.policy = &policy;
  problem.own_logit = static_cast<T*>(args.positive_logit);
  problem.maximum = maximum.data();
  problem.log_sum = log_sum.data();
  problem.rank = args.rank;
  problem.expected = static_cast<T*>(args.expected_key);
  problem.expected_row = static_cast<T*>(args.expected_query);
  streaming_softmax(problem, parallel);
  double total = 0;
  for (int64_t row = 0; row < args.rows; ++row) {
    static_cast<T*>(args.log_sum_exp)[row] = maximum[row] + log_sum[row];
    total += (maximum[row] - problem.own_logit[row]) + log_sum[row];
  }
  *static_cast<T*>(args.loss) = args.rows == 0 ? T(0) : static_cast<T>(total / static_cast<double>(args.rows));
}

// p − 1 of a row's own key, without the cancellation where p is nearly 1.
template <typename T>
T missing_probability(const PairwiseInfonceBackward& args, int64_t row) {
  return std::expm1(static_cast<const T*>(args.positive_logit)[row] - static_cast<const T*>(args.log_sum_exp)[row]);
}

// gradient_i = factor (sums_i + own_factor(i) own_i), where the first `own.count` rows have an own feature.
template <typename T, typename OwnFactor>
void combine(const void* sums, const FeatureRows& own, const OwnFactor& own_factor, int64_t rows, int64_t dim, T factor,
             StoredGradient<T>& gradient, const Parallel& parallel) {
  parallel.run(0, rows, 64, [&](int64_t begin, int64_t end) {
    std::vector<T> widened(dim);
    for (int64_t row = begin; row < end; ++row) {
      const T* sum = static_cast<const T*>(sums) + row * dim;
      T* to = gradient.sums() + row * dim;
      if (row >= own.count) {
        for (int64_t d = 0; d < dim; ++d) to[d] = factor * sum[d];
        continue;
      }
      const T share = own_factor(row);
      const T* feature = feature_row<T>(own, row, dim, widened.data());
      for (int64_t d = 0; d < dim; ++d) to[d] = factor * (sum[d] + share * feature[d]);
    }
  });
  gradient.store(parallel);
}

template <typename T>
void backward(const PairwiseInfonceBackward& args, const Parallel& parallel) {
  const T factor = args.rows == 0 ? T(0)
                                  : static_cast<T>(stored_scalar<T>(args.grad_loss, args.types.grad_loss) /
                                                   (static_cast<double>(args.rows) * args.temperature.value));
  const auto missing = [&](int64_t row) { return missing_probability<T>(args, row); };
  if (args.grad_query != nullptr) {
    StoredGradient<T> gradient(args.grad_query, args.types.grad_query, args.rows * args.dim);
    const FeatureRows keys{args.key, args.dtype, args.rows, nullptr};
    // Panels leave the own key out of E.
    const auto own_factor = [&](int64_t row) { return args.in_panels ? missing(row) : T(-1); };
    combine<T>(args.expected_key, keys, own_factor, args.rows, args.dim, factor, gradient, parallel);
  }
  if (args.grad_key == nullptr) return;
  StoredGradient<T> gradient(args.grad_key, args.types.grad_key, args.key_rows * args.dim);
  const ProductFeatures<T> queries(args.query, args.types.query, args.rows * args.dim, args.dtype, parallel);
  combine<T>(args.expected_query, queries.rows(args.rows), missing, args.key_rows, args.dim, factor, gradient,
             parallel);
}

}  // namespace

void pairwise_infonce_forward_cpu(const PairwiseInfonceForward& args, const Parallel& parallel) {
  if (args.dtype == Dtype::kFloat64) {
    forward<double>(args, parallel);
  } else {
    forward<float>(args, parallel);
  }
}

void pairwise_infonce_backward_cpu(const PairwiseInfonceBackward& args, const Parallel& parallel) {
  if (args.dtype == Dtype::kFloat64) {
    backward<double>(args, parallel);
  } else {
    backward<float>(args, parallel);
  }
}

}  // namespace motionops
