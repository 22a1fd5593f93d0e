// pairwise_infonce: schema, checks, dispatch.
#include "contrast/pairwise_infonce.h"

#include <tuple>

#include "contrast/contrast_binding.h"
#include "contrast/pairwise_panels_binding.h"

namespace motionops {
namespace {

// Whether products are taken in panels: of wide features; the CPU's in float64 are not.
bool in_panels(const Tensor& query, const Tensor& key) {
  if (goes_to_cuda(query)) return query.size(1) > kWidestStreamed;
  return query.size(1) > kWidestStreamedOnCpu && key.scalar_type() != ScalarType::Double;
}

// Whether the forward pass also makes what the key gradient needs.
bool makes_expected_query(const Tensor& query) {
  return forward_makes_key_gradient(query) || query.size(1) > kWidestStreamed;
}

void check_features(const char* op, const Tensor& query, const Tensor& key) {
  check_floating(op, "query", query);
  check_floating(op, "key", key);
  check_shape(op, "query", query, query.dim() == 2 && query.size(1) >= 1, "[N, D >= 1]");
  check_shape(op, "key", key, key.dim() == 2 && key.size(0) >= query.size(0) && key.size(1) == query.size(1),
              "[M >= N=", query.size(0), ", D=", query.size(1), "]");
  check_same_device(op, "key", key, "query", query);
  check_products(op, "key", query, key.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> pairwise_infonce(const Tensor& query,  // [N, D]
                                                                            const Tensor& key,    // [M, D]
                                                                            const OptionalTensor& temperature,
                                                                            const OptionalTensor& query_ids,  // [N]
                                                                            const OptionalTensor& key_ids,    // [M]
                                                                            double temperature_value,
                                                                            bool query_gradient, bool key_gradient,
                                                                            bool tf32, int64_t panel_rows) {
  constexpr const char* kOp = "pairwise_infonce";
  check_features(kOp, query, key);
  check_ids(kOp, {"query_ids", "N", query_ids, query}, {"key_ids", "M", key_ids, key});
  const GivenTemperature given(kOp, temperature, temperature_value, query);
  const int64_t rows = query.size(0), dim = query.size(1);
  const Tensor query_values = dense(query), key_values = dense(key);
  const OptionalTensor query_id_values = dense(query_ids), key_id_values = dense(key_ids);
  const ScalarType kept = accumulation_type(key);
  const Tensor loss = empty(Shape{}, kept, query);
  const Tensor rank = empty(Shape{rows}, ScalarType::Int, query);
  const Tensor positive_logit = empty(Shape{rows}, kept, query);
  const Tensor log_sum_exp = empty(Shape{rows}, kept, query);
  const Tensor expected_key = empty(Shape{query_gradient ? rows : 0, dim}, kept, query);
  const bool by_forward = key_gradient && makes_expected_query(query);
  const Tensor expected_query = empty(Shape{by_forward ? key.size(0) : 0, dim}, kept, query);

  PairwiseInfonceForward args{};
  args.dtype = dtype_of(key);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.query_ids = data_or_null<int64_t>(query_id_values);
  args.key_ids = data_or_null<int64_t>(key_id_values);
  args.rows = rows;
  args.key_rows = key.size(0);
  args.dim = dim;
  args.temperature = *given;
  args.tf32 = tf32;
  args.loss = loss.mutable_data_ptr();
  args.rank = static_cast<int32_t*>(rank.mutable_data_ptr());
  args.positive_logit = positive_logit.mutable_data_ptr();
  args.log_sum_exp = log_sum_exp.mutable_data_ptr();
  args.expected_key = query_gradient ? expected_key.mutable_data_ptr() : nullptr;
  args.expected_query = by_forward ? expected_query.mutable_data_ptr() : nullptr;
  args.types.query = dtype_of(query);

  const bool panels = in_panels(query, key);
  MOTIONOPS_DISPATCH(kOp, query,
                     panels ? pairwise_infonce_forward_in_panels_cpu(args, query_values, key_values, expected_key,
                                                                     expected_query, panel_rows, parallel)
                            : pairwise_infonce_forward_cpu(args, parallel),
                     panels ? pairwise_infonce_forward_in_panels(args, query_values, key_values, expected_key,
                                                                 expected_query, panel_rows, stream)
                            : pairwise_infonce_forward_cuda(
                                  args, workspace(pairwise_infonce_workspace_bytes(args), query).data_ptr(), stream));
  return {loss, rank, positive_logit, log_sum_exp, expected_key, expected_query};
}

std::tuple<Tensor, Tensor> pairwise_infonce_backward(
    const Tensor& grad_loss,  // []
    const Tensor& query,      // [N, D]
    const Tensor& key,        // [M, D]
    const OptionalTensor& temperature,
    const OptionalTensor& query_ids,  // [N]
    const OptionalTensor& key_ids,    // [M]
    const Tensor& positive_logit,     // [N]
    const Tensor& log_sum_exp,        // [N]
    const Tensor& expected_key,       // [N, D], or [0, D] where query_gradient is false
    const Tensor& expected_query,     // [M, D], or [0, D] where the forward pass did not make it
    double temperature_value, bool query_gradient, bool key_gradient, bool tf32) {
  constexpr const char* kOp = "pairwise_infonce_backward";
  check_features(kOp, query, key);
  check_ids(kOp, {"query_ids", "N", query_ids, query}, {"key_ids", "M", key_ids, key});
  const GivenTemperature given(kOp, temperature, temperature_value, query);
  check_grad_loss(kOp, grad_loss, query);
  const int64_t rows = query.size(0), dim = query.size(1);
  const ScalarType kept = accumulation_type(key);
  check_saved(kOp, "positive_logit", positive_logit, Shape{rows}, kept, query);
  check_saved(kOp, "log_sum_exp", log_sum_exp, Shape{rows}, kept, query);
  if (query_gradient) check_saved(kOp, "expected_key", expected_key, Shape{rows, dim}, kept, query);
  const bool by_forward = key_gradient && makes_expected_query(query);
  if (by_forward && !is_meta(query)) {
    check_saved(kOp, "expected_query", expected_query, key.sizes(), kept, query);
  }

  const Tensor query_values = dense(query), key_values = dense(key);
  const OptionalTensor query_id_values = dense(query_ids), key_id_values = dense(key_ids);
  const Tensor statistics[] = {dense(positive_logit), dense(log_sum_exp), dense(expected_key), dense(expected_query)};
  const Tensor grad_query = empty(Shape{query_gradient ? rows : 0, dim}, query);
  const Tensor grad_key = empty(Shape{key_gradient ? key.size(0) : 0, dim}, key);

  PairwiseInfonceBackward args{};
  args.dtype = dtype_of(key);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.query_ids = data_or_null<int64_t>(query_id_values);
  args.key_ids = data_or_null<int64_t>(key_id_values);
  args.grad_loss = grad_loss.const_data_ptr();
  args.positive_logit = statistics[0].const_data_ptr();
  args.log_sum_exp = statistics[1].const_data_ptr();
  args.expected_key = statistics[2].const_data_ptr();
  args.expected_query = by_forward ? statistics[3].const_data_ptr() : nullptr;
  args.rows = rows;
  args.key_rows = key.size(0);
  args.dim = dim;
  args.temperature = *given;
  args.tf32 = tf32;
  args.in_panels = in_panels(query, key);
  args.grad_query = query_gradient ? grad_query.mutable_data_ptr() : nullptr;
  args.grad_key = key_gradient ? grad_key.mutable_data_ptr() : nullptr;
  args.types = stored_types(query, key, grad_loss);

  MOTIONOPS_DISPATCH(kOp, query, pairwise_infonce_backward_cpu(args, parallel),
                     pairwise_infonce_backward_cuda(
                         args, workspace(pairwise_infonce_backward_workspace_bytes(args), query).data_ptr(), stream));
  return {grad_query, grad_key};
}

MOTIONOPS_DEFINE(
    "pairwise_infonce(Tensor query, Tensor key, Tensor? temperature, Tensor? query_ids, Tensor? key_ids, float "
    "temperature_value, bool "
    "query_gradient, bool key_gradient, bool tf32, int panel_rows) -> (Tensor loss, Tensor rank, Tensor "
    "positive_logit, Tensor log_sum_exp, Tensor expected_key, Tensor expected_query)",
    pairwise_infonce);
MOTIONOPS_DEFINE(
    "pairwise_infonce_backward(Tensor grad_loss, Tensor query, Tensor key, Tensor? temperature, Tensor? query_ids, "
    "Tensor? key_ids, Tensor positive_logit, Tensor log_sum_exp, Tensor expected_key, Tensor expected_query, float "
    "temperature_value, "
    "bool query_gradient, bool key_gradient, bool tf32) -> (Tensor grad_query, Tensor grad_key)",
    pairwise_infonce_backward);

}  // namespace
}  // namespace motionops
