// queue_infonce: schema, checks, dispatch.
#include "contrast/queue_infonce.h"

#include <ATen/Context.h>

#include <tuple>

#include "contrast/contrast_binding.h"

namespace motionops {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

constexpr const char* kOp = "queue_infonce";

void check_features(const Tensor& query, const Tensor& key, const Tensor& queue, const OptionalTensor& extra) {
  check_floating(kOp, "query", query);
  check_floating(kOp, "key", key);
  check_floating(kOp, "queue", queue);
  check_shape(kOp, "query", query, query.dim() == 2 && query.size(1) >= 1, "[B, D >= 1]");
  const int64_t rows = query.size(0);
  const int64_t dim = query.size(1);
  check_shape(kOp, "key", key, key.sizes() == query.sizes(), "[B=", rows, ", D=", dim, "]");
  check_shape(kOp, "queue", queue, queue.dim() == 2 && queue.size(1) == dim, "[K, D=", dim, "]");
  check_same_device(kOp, "key", key, "query", query);
  check_same_device(kOp, "queue", queue, "query", query);
  if (!extra.has_value()) return;
  check_floating(kOp, "extra_negatives", *extra);
  check_shape(kOp, "extra_negatives", *extra, extra->dim() == 2 && extra->size(1) == dim, "[E, D=", dim, "]");
  check_same_device(kOp, "extra_negatives", *extra, "query", query);
}

void check_ids(const Tensor& query, const Tensor& queue, const OptionalTensor& query_ids,
               const OptionalTensor& queue_ids) {
  TORCH_CHECK_VALUE(query_ids.has_value() == queue_ids.has_value(), kOp,
                    ": query_ids and queue_ids must be given together, got only ",
                    query_ids.has_value() ? "query_ids" : "queue_ids");
  if (!query_ids.has_value()) return;
  check_dtype(kOp, "query_ids", *query_ids, at::kLong);
  check_dtype(kOp, "queue_ids", *queue_ids, at::kLong);
  check_shape(kOp, "query_ids", *query_ids, query_ids->dim() == 1 && query_ids->size(0) == query.size(0),
              "[B=", query.size(0), "]");
  check_shape(kOp, "queue_ids", *queue_ids, queue_ids->dim() == 1 && queue_ids->size(0) == queue.size(0),
              "[K=", queue.size(0), "]");
  check_same_device(kOp, "query_ids", *query_ids, "query", query);
  check_same_device(kOp, "queue_ids", *queue_ids, "query", query);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> queue_infonce(const Tensor& query,              // [B, D]
                                                                 const Tensor& key,                // [B, D]
                                                                 const Tensor& queue,              // [K, D]
                                                                 const OptionalTensor& extra,      // [E, D]
                                                                 const OptionalTensor& query_ids,  // [B]
                                                                 const OptionalTensor& queue_ids,  // [K]
                                                                 double temperature, bool query_gradient) {
  check_features(query, key, queue, extra);
  check_ids(query, queue, query_ids, queue_ids);
  check_positive(kOp, "temperature", temperature);
  check_products(kOp, "queue", query, queue.scalar_type());

  const at::ScalarType products = queue.scalar_type();
  const int64_t rows = query.size(0);
  const int64_t dim = query.size(1);
  const Tensor query_values = for_products(query, products);
  const Tensor key_values = for_products(key, products);
  const Tensor queue_values = queue.contiguous();
  const OptionalTensor extra_values = extra.has_value() ? OptionalTensor(for_products(*extra, products)) : extra;
  const OptionalTensor query_id_values = contiguous(query_ids);
  const OptionalTensor queue_id_values = contiguous(queue_ids);

  const auto kept = query.options().dtype(accumulation_type(queue));
  const Tensor loss = at::empty({}, kept);
  const Tensor rank = at::empty({rows}, query.options().dtype(at::kInt));
  const Tensor positive_logit = at::empty({rows}, kept);
  const Tensor log_sum_exp = at::empty({rows}, kept);
  const Tensor expected_key = at::empty({query_gradient ? rows : 0, dim}, kept);

  QueueInfonceForward args{};
  args.dtype = dtype_of(queue);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.queue = queue_values.const_data_ptr();
  args.extra = data_or_null(extra_values);
  args.query_ids = static_cast<const int64_t*>(data_or_null(query_id_values));
  args.queue_ids = static_cast<const int64_t*>(data_or_null(queue_id_values));
  args.rows = rows;
  args.dim = dim;
  args.queue_rows = queue.size(0);
  args.extra_rows = extra.has_value() ? extra->size(0) : 0;
  args.temperature = temperature;
  args.tf32 = at::globalContext().float32MatmulPrecision() != at::Float32MatmulPrecision::HIGHEST;
  args.loss = loss.mutable_data_ptr();
  args.rank = rank.mutable_data_ptr<int32_t>();
  args.positive_logit = positive_logit.mutable_data_ptr();
  args.log_sum_exp = log_sum_exp.mutable_data_ptr();
  args.expected_key = query_gradient ? expected_key.mutable_data_ptr() : nullptr;

  MOTIONOPS_DISPATCH(
      kOp, query, queue_infonce_forward_cpu(args, parallel),
      queue_infonce_forward_cuda(args, workspace(queue_infonce_workspace_bytes(args), query).data_ptr(), stream));
  return {loss, rank, positive_logit, log_sum_exp, expected_key};
}

std::tuple<Tensor, Tensor> queue_infonce_backward(
    const Tensor& grad_loss,       // []
    const Tensor& query,           // [B, D]
    const Tensor& key,             // [B, D]
    const Tensor& positive_logit,  // [B]
    const Tensor& log_sum_exp,     // [B]
    const Tensor& expected_key,    // [B, D], or [0, D] where query_gradient is false
    double temperature, at::ScalarType products, bool query_gradient, bool key_gradient) {
  constexpr const char* kBackward = "queue_infonce_backward";
  const int64_t rows = query.size(0);
  const int64_t dim = query.size(1);
  check_shape(kBackward, "expected_key", expected_key,
              expected_key.dim() == 2 && (!query_gradient || expected_key.sizes() == query.sizes()), "[B=", rows,
              ", D=", dim, "]");
  const Tensor query_values = for_products(query, products);
  const Tensor key_values = for_products(key, products);
  const auto kept = query.options().dtype(accumulation_type(query_values));
  const Tensor grad_loss_value = grad_loss.to(kept.dtype());
  const Tensor grad_query = at::empty({query_gradient ? rows : 0, dim}, kept);
  const Tensor grad_key = at::empty({key_gradient ? rows : 0, dim}, kept);

  QueueInfonceBackward args{};
  args.dtype = dtype_of(query_values);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.grad_loss = grad_loss_value.const_data_ptr();
  args.positive_logit = positive_logit.const_data_ptr();
  args.log_sum_exp = log_sum_exp.const_data_ptr();
  args.expected_key = expected_key.const_data_ptr();
  args.rows = rows;
  args.dim = dim;
  args.temperature = temperature;
  args.grad_query = query_gradient ? grad_query.mutable_data_ptr() : nullptr;
  args.grad_key = key_gradient ? grad_key.mutable_data_ptr() : nullptr;

  MOTIONOPS_DISPATCH(kBackward, query, queue_infonce_backward_cpu(args, parallel),
                     queue_infonce_backward_cuda(args, stream));
  return {grad_query.to(query.scalar_type()), grad_key.to(key.scalar_type())};
}

}  // namespace
}  // namespace motionops

TORCH_LIBRARY_FRAGMENT(MOTIONOPS_NAMESPACE, m) {
  motionops::define(m,
                    "queue_infonce(Tensor query, Tensor key, Tensor queue, "
                    "Tensor? extra_negatives, Tensor? query_ids, Tensor? queue_ids, "
                    "float temperature, bool query_gradient) -> "
                    "(Tensor loss, Tensor rank, Tensor positive_logit, Tensor log_sum_exp, "
                    "Tensor expected_key)",
                    &motionops::queue_infonce);
  motionops::define(m,
                    "queue_infonce_backward(Tensor grad_loss, Tensor query, Tensor key, "
                    "Tensor positive_logit, Tensor log_sum_exp, Tensor expected_key, "
                    "float temperature, ScalarType products, bool query_gradient, "
                    "bool key_gradient) -> (Tensor grad_query, Tensor grad_key)",
                    &motionops::queue_infonce_backward);
}
