// pairwise_infonce: schema, checks, dispatch.
#include "contrast/pairwise_infonce.h"

#include <ATen/Context.h>

#include <tuple>

#include "contrast/contrast_binding.h"

namespace motionops {
namespace {

using at::Tensor;

constexpr const char* kOp = "pairwise_infonce";

bool tf32_allowed() { return at::globalContext().float32MatmulPrecision() != at::Float32MatmulPrecision::HIGHEST; }

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> pairwise_infonce(const Tensor& query,  // [N, D]
                                                                            const Tensor& key,    // [M, D]
                                                                            double temperature, bool query_gradient,
                                                                            bool key_gradient) {
  check_floating(kOp, "query", query);
  check_floating(kOp, "key", key);
  check_shape(kOp, "query", query, query.dim() == 2 && query.size(1) >= 1, "[N, D >= 1]");
  const int64_t rows = query.size(0);
  const int64_t dim = query.size(1);
  check_shape(kOp, "key", key, key.dim() == 2 && key.size(0) >= rows && key.size(1) == dim, "[M >= N=", rows,
              ", D=", dim, "]");
  check_same_device(kOp, "key", key, "query", query);
  check_positive(kOp, "temperature", temperature);
  check_products(kOp, "key", query, key.scalar_type());

  const Tensor query_values = for_products(query, key.scalar_type());
  const Tensor key_values = key.contiguous();
  const auto kept = query.options().dtype(accumulation_type(key));
  const Tensor loss = at::empty({}, kept);
  const Tensor rank = at::empty({rows}, query.options().dtype(at::kInt));
  const Tensor positive_logit = at::empty({rows}, kept);
  const Tensor log_sum_exp = at::empty({rows}, kept);
  const Tensor expected_key = at::empty({query_gradient ? rows : 0, dim}, kept);
  const bool by_forward = key_gradient && forward_makes_key_gradient(query);
  const Tensor expected_query = at::empty({by_forward ? key.size(0) : 0, dim}, kept);

  PairwiseInfonceForward args{};
  args.dtype = dtype_of(key);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.rows = rows;
  args.key_rows = key.size(0);
  args.dim = dim;
  args.temperature = temperature;
  args.tf32 = tf32_allowed();
  args.loss = loss.mutable_data_ptr();
  args.rank = rank.mutable_data_ptr<int32_t>();
  args.positive_logit = positive_logit.mutable_data_ptr();
  args.log_sum_exp = log_sum_exp.mutable_data_ptr();
  args.expected_key = query_gradient ? expected_key.mutable_data_ptr() : nullptr;
  args.expected_query = by_forward ? expected_query.mutable_data_ptr() : nullptr;

  MOTIONOPS_DISPATCH(
      kOp, query, pairwise_infonce_forward_cpu(args, parallel),
      pairwise_infonce_forward_cuda(args, workspace(pairwise_infonce_workspace_bytes(args), query).data_ptr(), stream));
  return {loss, rank, positive_logit, log_sum_exp, expected_key, expected_query};
}

std::tuple<Tensor, Tensor> pairwise_infonce_backward(
    const Tensor& grad_loss,       // []
    const Tensor& query,           // [N, D]
    const Tensor& key,             // [M, D]
    const Tensor& positive_logit,  // [N]
    const Tensor& log_sum_exp,     // [N]
    const Tensor& expected_key,    // [N, D], or [0, D] where query_gradient is false
    const Tensor& expected_query,  // [M, D], or [0, D] where the forward pass did not make it
    double temperature, bool query_gradient, bool key_gradient) {
  constexpr const char* kBackward = "pairwise_infonce_backward";
  const int64_t rows = query.size(0);
  const int64_t dim = query.size(1);
  check_shape(kBackward, "expected_key", expected_key,
              expected_key.dim() == 2 && (!query_gradient || expected_key.sizes() == query.sizes()), "[N=", rows,
              ", D=", dim, "]");
  check_shape(kBackward, "expected_query", expected_query,
              expected_query.dim() == 2 &&
                  (!key_gradient || !forward_makes_key_gradient(query) || expected_query.sizes() == key.sizes()),
              "[M=", key.size(0), ", D=", dim, "]");
  const Tensor query_values = for_products(query, key.scalar_type());
  const Tensor key_values = key.contiguous();
  const auto kept = query.options().dtype(accumulation_type(key));
  const Tensor grad_loss_value = grad_loss.to(kept.dtype());
  const Tensor grad_query = at::empty({query_gradient ? rows : 0, dim}, kept);
  const Tensor grad_key = at::empty({key_gradient ? key.size(0) : 0, dim}, kept);

  PairwiseInfonceBackward args{};
  args.dtype = dtype_of(key);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.grad_loss = grad_loss_value.const_data_ptr();
  args.positive_logit = positive_logit.const_data_ptr();
  args.log_sum_exp = log_sum_exp.const_data_ptr();
  args.expected_key = expected_key.const_data_ptr();
  args.expected_query = expected_query.const_data_ptr();
  args.rows = rows;
  args.key_rows = key.size(0);
  args.dim = dim;
  args.temperature = temperature;
  args.tf32 = tf32_allowed();
  args.grad_query = query_gradient ? grad_query.mutable_data_ptr() : nullptr;
  args.grad_key = key_gradient ? grad_key.mutable_data_ptr() : nullptr;

  MOTIONOPS_DISPATCH(kBackward, query, pairwise_infonce_backward_cpu(args, parallel),
                     pairwise_infonce_backward_cuda(
                         args, workspace(pairwise_infonce_backward_workspace_bytes(args), query).data_ptr(), stream));
  return {grad_query.to(query.scalar_type()), grad_key.to(key.scalar_type())};
}

}  // namespace
}  // namespace motionops

TORCH_LIBRARY_FRAGMENT(MOTIONOPS_NAMESPACE, m) {
  motionops::define(m,
                    "pairwise_infonce(Tensor query, Tensor key, float temperature, bool query_gradient, "
                    "bool key_gradient) -> (Tensor loss, Tensor rank, Tensor positive_logit, Tensor log_sum_exp, "
                    "Tensor expected_key, Tensor expected_query)",
                    &motionops::pairwise_infonce);
  motionops::define(m,
                    "pairwise_infonce_backward(Tensor grad_loss, Tensor query, Tensor key, Tensor positive_logit, "
                    "Tensor log_sum_exp, Tensor expected_key, Tensor expected_query, float temperature, "
                    "bool query_gradient, bool key_gradient) -> (Tensor grad_query, Tensor grad_key)",
                    &motionops::pairwise_infonce_backward);
}
