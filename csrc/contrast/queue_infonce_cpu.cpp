// queue_infonce on the CPU: the streaming softmax with an own column and one policy, that rows of the query's own video
// in the queue do not count.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "contrast/queue_infonce.h"
#include "contrast/same_video_cpu.h"
#include "contrast/stored_features_cpu.h"
#include "contrast/streaming_softmax_cpu.h"

namespace motionops {
namespace {

// Queue rows whose id is the query's do not count. The queue comes first among the columns.
template <typename T>
class OtherVideos final : public ColumnPolicy<T> {
 public:
  explicit OtherVideos(const QueueInfonceForward& args)
      : queries_(args.query_ids, args.rows), queue_ids_(args.queue_ids), queue_rows_(args.queue_rows) {}

  void exclude(const LogitTile<T>& tile) const override {
    queries_.strike_out(tile, queue_ids_, std::min(tile.columns, queue_rows_ - tile.column_begin));
  }

 private:
  RowVideos queries_;
  const int64_t* queue_ids_;
  int64_t queue_rows_;
};

template <typename T>
void forward(const QueueInfonceForward& args, const Parallel& parallel) {
  const int64_t values = args.rows * args.dim;
  const ProductFeatures<T> query(args.query, args.types.query, values, args.dtype, parallel);
  const ProductFeatures<T> key(args.key, args.types.key, values, args.dtype, parallel);
  const ProductFeatures<T> extra(args.extra, args.types.extra, args.extra_rows * args.dim, args.dtype, parallel);
  const std::array<FeatureRows, 2> columns = {FeatureRows{args.queue, args.dtype, args.queue_rows, nullptr},
                                              extra.rows(args.extra_rows)};
  std::vector<T> maximum(args.rows);
  std::vector<T> log_sum(args.rows);
  StreamingSoftmax<T> problem;
  problem.rows = query.rows(args.rows);
  problem.own = key.rows(args.rows);
  problem.columns = columns;
  problem.dim = args.dim;
  problem.scale = static_cast<T>(1.0 / args.temperature.value);
  problem.own_logit = static_cast<T*>(args.positive_logit);
  problem.maximum = maximum.data();
  problem.log_sum = log_sum.data();
  problem.rank = args.rank;
  problem.expected = static_cast<T*>(args.expected_key);
  if (args.query_ids != nullptr) {
    const OtherVideos<T> policy(args);
    problem.policy = &policy;
    streaming_softmax(problem, parallel);
  } else {
    streaming_softmax(problem, parallel);
  }
  double total = 0;
  for (int64_t row = 0; row < args.rows; ++row) {
    static_cast<T*>(args.log_sum_exp)[row] = maximum[row] + log_sum[row];
    total += (maximum[row] - problem.own_logit[row]) + log_sum[row];
  }
  *static_cast<T*>(args.loss) = args.rows == 0 ? T(0) : static_cast<T>(total / static_cast<double>(args.rows));
}

template <typename T>
void backward(const QueueInfonceBackward& args, const Parallel& parallel) {
  if (args.rows == 0) return;
  const int64_t values = args.rows * args.dim;
  const ProductFeatures<T> queries(args.query, args.types.query, values, args.dtype, parallel);
  const ProductFeatures<T> keys(args.key, args.types.key, values, args.dtype, parallel);
  StoredGradient<T> grad_query(args.grad_query, args.types.grad_query, values);
  StoredGradient<T> grad_key(args.grad_key, args.types.grad_key, values);
  const T factor = static_cast<T>(stored_scalar<T>(args.grad_loss, args.types.grad_loss) /
                                  (static_cast<double>(args.rows) * args.temperature.value));
  parallel.run(0, args.rows, 64, [&](int64_t begin, int64_t end) {
    std::vector<T> widened(args.dim);
    for (int64_t row = begin; row < end; ++row) {
      if (args.grad_query != nullptr) {
        const T* key = feature_row<T>(keys.rows(args.rows), row, args.dim, widened.data());
        const T* expected = static_cast<const T*>(args.expected_key) + row * args.dim;
        T* to = grad_query.sums() + row * args.dim;
        for (int64_t d = 0; d < args.dim; ++d) to[d] = factor * (expected[d] - key[d]);
      }
      if (args.grad_key != nullptr) {
        const T* query = feature_row<T>(queries.rows(args.rows), row, args.dim, widened.data());
        // p − 1, without the cancellation where p is nearly 1.
        const T miss =
            std::expm1(static_cast<const T*>(args.positive_logit)[row] - static_cast<const T*>(args.log_sum_exp)[row]);
        T* to = grad_key.sums() + row * args.dim;
        for (int64_t d = 0; d < args.dim; ++d) to[d] = factor * miss * query[d];
      }
    }
  });
  grad_query.store(parallel);
  grad_key.store(parallel);
}

}  // namespace

void queue_infonce_forward_cpu(const QueueInfonceForward& args, const Parallel& parallel) {
  if (args.dtype == Dtype::kFloat64) {
    forward<double>(args, parallel);
  } else {
    forward<float>(args, parallel);
  }
}

void queue_infonce_backward_cpu(const QueueInfonceBackward& args, const Parallel& parallel) {
  if (args.dtype == Dtype::kFloat64) {
    backward<double>(args, parallel);
  } else {
    backward<float>(args, parallel);
  }
}

}  // namespace motionops
