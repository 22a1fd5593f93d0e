// region_contrast: schema, checks, dispatch.
#include "contrast/region_contrast.h"

#include <ATen/Context.h>

#include <tuple>

#include "contrast/contrast_binding.h"
#include "geometry/extent_binding.h"

namespace motionops {
namespace {

using at::Tensor;

constexpr const char* kOp = "region_contrast";

bool tf32_allowed() { return at::globalContext().float32MatmulPrecision() != at::Float32MatmulPrecision::HIGHEST; }

RegionPairs pairs_of(const Tensor& query, const Tensor& key, const Tensor& query_extent, const Tensor& key_extent) {
  return {query_extent.const_data_ptr<double>(),
          key_extent.const_data_ptr<double>(),
          query.size(0),
          query.size(1),
          {{query.size(2), query.size(3), query.size(4)}},
          {{key.size(1), key.size(2), key.size(3)}}};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> region_contrast(const Tensor& query, const Tensor& key,
                                                                   const Tensor& query_extent, const Tensor& key_extent,
                                                                   double temperature, bool query_gradient,
                                                                   bool key_gradient) {
  check_floating(kOp, "query", query);
  check_floating(kOp, "key", key);
  check_extent_type(kOp, "query_extent", query_extent);
  check_extent_type(kOp, "key_extent", key_extent);
  check_shape(kOp, "query", query,
              query.dim() == 6 && query.size(2) >= 1 && query.size(3) >= 1 && query.size(4) >= 1 && query.size(5) >= 1,
              "[B, V, t >= 1, h >= 1, w >= 1, D >= 1]");
  const int64_t batch = query.size(0), views = query.size(1), dim = query.size(5);
  check_shape(kOp, "key", key,
              key.dim() == 5 && key.size(0) == batch && key.size(1) >= 1 && key.size(2) >= 1 && key.size(3) >= 1 &&
                  key.size(4) == dim,
              "[B=", batch, ", t' >= 1, h' >= 1, w' >= 1, D=", dim, "]");
  check_shape(kOp, "query_extent", query_extent, query_extent.sizes() == at::IntArrayRef({batch, views, 3, 2}),
              "[B=", batch, ", V=", views, ", 3, 2]");
  check_shape(kOp, "key_extent", key_extent, key_extent.sizes() == at::IntArrayRef({batch, 3, 2}), "[B=", batch,
              ", 3, 2]");
  check_same_device(kOp, "key", key, "query", query);
  check_same_device(kOp, "query_extent", query_extent, "query", query);
  check_same_device(kOp, "key_extent", key_extent, "query", query);
  check_positive(kOp, "temperature", temperature);
  check_products(kOp, "key", query, key.scalar_type());
  const Tensor query_values = for_products(query, key.scalar_type()), key_values = key.contiguous();
  const Tensor query_places = query_extent.to(at::kDouble).contiguous();
  const Tensor key_places = key_extent.to(at::kDouble).contiguous();
  check_volume(kOp, "query_extent", query_places);
  check_volume(kOp, "key_extent", key_places);
  const auto kept = query.options().dtype(accumulation_type(key));
  const Tensor loss = at::empty({}, kept);
  const Tensor log_sum_exp = at::empty(query.sizes().slice(0, 5), kept);
  const Tensor weight = at::empty(query.sizes().slice(0, 5), kept);
  const Tensor difference = query_gradient ? at::empty(query.sizes(), kept) : at::empty({0}, kept);
  const bool by_forward = key_gradient && forward_makes_key_gradient(query);
  const Tensor expected_query = by_forward ? at::empty(key.sizes(), kept) : at::empty({0}, kept);
  RegionContrastForward args{};
  args.dtype = dtype_of(key);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.pairs = pairs_of(query, key, query_places, key_places);
  args.dim = dim;
  args.temperature = temperature;
  args.tf32 = tf32_allowed();
  args.loss = loss.mutable_data_ptr();
  args.log_sum_exp = log_sum_exp.mutable_data_ptr();
  args.weight = weight.mutable_data_ptr();
  args.expected_difference = query_gradient ? difference.mutable_data_ptr() : nullptr;
  args.expected_query = by_forward ? expected_query.mutable_data_ptr() : nullptr;
  MOTIONOPS_DISPATCH(
      kOp, query, region_contrast_forward_cpu(args, parallel),
      region_contrast_forward_cuda(args, workspace(region_contrast_workspace_bytes(args), query).data_ptr(), stream));
  return {loss, log_sum_exp, weight, difference, expected_query};
}

std::tuple<Tensor, Tensor> region_contrast_backward(const Tensor& grad_loss, const Tensor& query, const Tensor& key,
                                                    const Tensor& query_extent, const Tensor& key_extent,
                                                    const Tensor& log_sum_exp, const Tensor& weight,
                                                    const Tensor& difference, const Tensor& expected_query,
                                                    double temperature, bool query_gradient, bool key_gradient) {
  constexpr const char* kBackward = "region_contrast_backward";
  check_shape(kBackward, "expected_difference", difference, !query_gradient || difference.sizes() == query.sizes(),
              "that of query, ", query.sizes());
  check_shape(kBackward, "expected_query", expected_query,
              !key_gradient || !forward_makes_key_gradient(query) || expected_query.sizes() == key.sizes(),
              "that of key, ", key.sizes());
  const Tensor query_values = for_products(query, key.scalar_type()), key_values = key.contiguous();
  const Tensor query_places = query_extent.to(at::kDouble).contiguous();
  const Tensor key_places = key_extent.to(at::kDouble).contiguous();
  const auto kept = query.options().dtype(accumulation_type(key));
  const Tensor grad_loss_value = grad_loss.to(kept.dtype());
  const Tensor grad_query = query_gradient ? at::empty(query.sizes(), kept) : at::empty({0}, kept);
  const Tensor grad_key = key_gradient ? at::empty(key.sizes(), kept) : at::empty({0}, kept);
  RegionContrastBackward args{};
  args.dtype = dtype_of(key);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.pairs = pairs_of(query, key, query_places, key_places);
  args.dim = query.size(5);
  args.temperature = temperature;
  args.tf32 = tf32_allowed();
  args.grad_loss = grad_loss_value.const_data_ptr();
  args.log_sum_exp = log_sum_exp.const_data_ptr();
  args.weight = weight.const_data_ptr();
  args.expected_difference = difference.const_data_ptr();
  args.expected_query = expected_query.const_data_ptr();
  args.grad_query = query_gradient ? grad_query.mutable_data_ptr() : nullptr;
  args.grad_key = key_gradient ? grad_key.mutable_data_ptr() : nullptr;
  MOTIONOPS_DISPATCH(kBackward, query, region_contrast_backward_cpu(args, parallel),
                     region_contrast_backward_cuda(
                         args, workspace(region_contrast_backward_workspace_bytes(args), query).data_ptr(), stream));
  return {grad_query.to(query.scalar_type()), grad_key.to(key.scalar_type())};
}

}  // namespace
}  // namespace motionops

TORCH_LIBRARY_FRAGMENT(MOTIONOPS_NAMESPACE, m) {
  motionops::define(
      m,
      "region_contrast(Tensor query, Tensor key, Tensor query_extent, Tensor key_extent, float temperature, "
      "bool query_gradient, bool key_gradient) -> (Tensor loss, Tensor log_sum_exp, Tensor weight, "
      "Tensor expected_difference, Tensor expected_query)",
      &motionops::region_contrast);
  motionops::define(m,
                    "region_contrast_backward(Tensor grad_loss, Tensor query, Tensor key, Tensor query_extent, "
                    "Tensor key_extent, Tensor log_sum_exp, Tensor weight, Tensor expected_difference, "
                    "Tensor expected_query, float temperature, bool query_gradient, bool key_gradient) -> (Tensor "
                    "grad_query, Tensor grad_key)",
                    &motionops::region_contrast_backward);
}
