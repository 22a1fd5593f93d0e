// queue_infonce: schema, checks, dispatch.
#include "contrast/queue_infonce.h"

#include <tuple>

#include "contrast/contrast_binding.h"

namespace motionops {
namespace {

void check_query_and_key(const char* op, const Tensor& query, const Tensor& key) {
  check_floating(op, "query", query);
  check_floating(op, "key", key);
  check_shape(op, "query", query, query.dim() == 2 && query.size(1) >= 1, "[B, D >= 1]");
  check_shape(op, "key", key, same_sizes(key, query.sizes()), "[B=", query.size(0), ", D=", query.size(1), "]");
  check_same_device(op, "key", key, "query", query);
}

void check_negatives(const char* op, const char* argument, const Tensor& negatives, const char* rows,
                     const Tensor& query) {
  check_floating(op, argument, negatives);
  check_shape(op, argument, negatives, negatives.dim() == 2 && negatives.size(1) == query.size(1), "[", rows,
              ", D=", query.size(1), "]");
  check_same_device(op, argument, negatives, "query", query);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> queue_infonce(const Tensor& query,  // [B, D]
                                                                 const Tensor& key,    // [B, D]
                                                                 const OptionalTensor& temperature,
                                                                 const Tensor& queue,              // [K, D]
                                                                 const OptionalTensor& extra,      // [E, D]
                                                                 const OptionalTensor& query_ids,  // [B]
                                                                 const OptionalTensor& queue_ids,  // [K]
                                                                 double temperature_value, bool query_gradient,
                                                                 bool tf32) {
  constexpr const char* kOp = "queue_infonce";
  check_query_and_key(kOp, query, key);
  check_negatives(kOp, "queue", queue, "K", query);
  if (extra.has_value()) check_negatives(kOp, "extra_negatives", *extra, "E", query);
  check_ids(kOp, {"query_ids", "B", query_ids, query}, {"queue_ids", "K", queue_ids, queue});
  const GivenTemperature given(kOp, temperature, temperature_value, query);
  const ScalarType products = queue.scalar_type();
  check_products(kOp, "queue", query, products);

  const int64_t rows = query.size(0), dim = query.size(1);
  const Tensor query_values = dense(query), key_values = dense(key);
  const Tensor queue_values = dense(queue);
  const OptionalTensor extra_values = dense(extra);
  const OptionalTensor query_id_values = dense(query_ids), queue_id_values = dense(queue_ids);

  const ScalarType kept = accumulation_type(products);
  const Tensor loss = empty(Shape{}, kept, query);
  const Tensor rank = empty(Shape{rows}, ScalarType::Int, query);
  const Tensor positive_logit = empty(Shape{rows}, kept, query);
  const Tensor log_sum_exp = empty(Shape{rows}, kept, query);
  const Tensor expected_key = empty(Shape{query_gradient ? rows : 0, dim}, kept, query);

  QueueInfonceForward args{};
  args.dtype = dtype_of(products);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.queue = queue_values.const_data_ptr();
  args.extra = data_or_null(extra_values);
  args.query_ids = data_or_null<int64_t>(query_id_values);
  args.queue_ids = data_or_null<int64_t>(queue_id_values);
  args.rows = rows;
  args.dim = dim;
  args.queue_rows = queue.size(0);
  args.extra_rows = extra.has_value() ? extra->size(0) : 0;
  args.temperature = *given;
  args.tf32 = tf32;
  args.loss = loss.mutable_data_ptr();
  args.rank = static_cast<int32_t*>(rank.mutable_data_ptr());
  args.positive_logit = positive_logit.mutable_data_ptr();
  args.log_sum_exp = log_sum_exp.mutable_data_ptr();
  args.expected_key = query_gradient ? expected_key.mutable_data_ptr() : nullptr;
  args.types.query = dtype_of(query);
  args.types.key = dtype_of(key);
  if (extra.has_value()) args.types.extra = dtype_of(*extra);

  MOTIONOPS_DISPATCH(
      kOp, query, queue_infonce_forward_cpu(args, parallel),
      queue_infonce_forward_cuda(args, workspace(queue_infonce_workspace_bytes(args), query).data_ptr(), stream));
  return {loss, rank, positive_logit, log_sum_exp, expected_key};
}

std::tuple<Tensor, Tensor> queue_infonce_backward(
    const Tensor& grad_loss,  // []
    const Tensor& query,      // [B, D]
    const Tensor& key,        // [B, D]
    const OptionalTensor& temperature,
    const Tensor& positive_logit,  // [B]
    const Tensor& log_sum_exp,     // [B]
    const Tensor& expected_key,    // [B, D], or [0, D] where query_gradient is false
    double temperature_value, ScalarType products, bool query_gradient, bool key_gradient) {
  constexpr const char* kOp = "queue_infonce_backward";
  check_query_and_key(kOp, query, key);
  check_grad_loss(kOp, grad_loss, query);
  check_floating(kOp, "products", products);
  check_products(kOp, "products", query, products);
  const GivenTemperature given(kOp, temperature, temperature_value, query);
  const int64_t rows = query.size(0), dim = query.size(1);
  const ScalarType kept = accumulation_type(products);
  check_saved(kOp, "positive_logit", positive_logit, Shape{rows}, kept, query);
  check_saved(kOp, "log_sum_exp", log_sum_exp, Shape{rows}, kept, query);
  if (query_gradient) check_saved(kOp, "expected_key", expected_key, Shape{rows, dim}, kept, query);

  const Tensor query_values = dense(query), key_values = dense(key);
  const Tensor statistics[] = {dense(positive_logit), dense(log_sum_exp), dense(expected_key)};
  const Tensor grad_query = empty(Shape{query_gradient ? rows : 0, dim}, query);
  const Tensor grad_key = empty(Shape{key_gradient ? rows : 0, dim}, key);

  QueueInfonceBackward args{};
  args.dtype = dtype_of(products);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.grad_loss = grad_loss.const_data_ptr();
  args.positive_logit = statistics[0].const_data_ptr();
  args.log_sum_exp = statistics[1].const_data_ptr();
  args.expected_key = statistics[2].const_data_ptr();
  args.rows = rows;
  args.dim = dim;
  args.temperature = *given;
  args.grad_query = query_gradient ? grad_query.mutable_data_ptr() : nullptr;
  args.grad_key = key_gradient ? grad_key.mutable_data_ptr() : nullptr;
  args.types = stored_types(query, key, grad_loss);

  MOTIONOPS_DISPATCH(kOp, query, queue_infonce_backward_cpu(args, parallel), queue_infonce_backward_cuda(args, stream));
  return {grad_query, grad_key};
}

MOTIONOPS_DEFINE(
    "queue_infonce(Tensor query, Tensor key, Tensor? temperature, Tensor queue, Tensor? extra_negatives, Tensor? "
    "query_ids, Tensor? queue_ids, float temperature_value, bool query_gradient, bool tf32) -> (Tensor loss, "
    "Tensor rank, Tensor positive_logit, Tensor log_sum_exp, Tensor expected_key)",
    queue_infonce);
MOTIONOPS_DEFINE(
    "queue_infonce_backward(Tensor grad_loss, Tensor query, Tensor key, Tensor? temperature, Tensor "
    "positive_logit, Tensor log_sum_exp, Tensor expected_key, float temperature_value, ScalarType products, bool "
    "query_gradient, bool key_gradient) -> (Tensor grad_query, Tensor grad_key)",
    queue_infonce_backward);

}  // namespace
}  // namespace motionops
