// region_contrast: schema, checks, dispatch.
#include "contrast/region_contrast.h"

#include <tuple>

#include "contrast/contrast_binding.h"
#include "geometry/extent_binding.h"

namespace motionops {
namespace {

// Where the cells lie, checked with their features. The tensors live as long as the launcher runs.
struct Pairs {
  Tensor query_extent;
  Tensor key_extent;
  RegionPairs args{};

  Pairs(const char* op, const Tensor& query, const Tensor& key, const Tensor& query_view, const Tensor& key_view) {
    check_floating(op, "query", query);
    check_floating(op, "key", key);
    check_extent_type(op, "query_extent", query_view);
    check_extent_type(op, "key_extent", key_view);
    check_shape(
        op, "query", query,
        query.dim() == 6 && query.size(2) >= 1 && query.size(3) >= 1 && query.size(4) >= 1 && query.size(5) >= 1,
        "[B, V, t >= 1, h >= 1, w >= 1, D >= 1]");
    const int64_t batch = query.size(0), views = query.size(1), dim = query.size(5);
    check_shape(op, "key", key,
                key.dim() == 5 && key.size(0) >= batch && key.size(1) >= 1 && key.size(2) >= 1 && key.size(3) >= 1 &&
                    key.size(4) == dim,
                "[M >= B=", batch, ", t' >= 1, h' >= 1, w' >= 1, D=", dim, "]");
    check_shape(op, "query_extent", query_view, same_sizes(query_view, Shape{batch, views, 3, 2}), "[B=", batch,
                ", V=", views, ", 3, 2]");
    check_shape(op, "key_extent", key_view, same_sizes(key_view, Shape{key.size(0), 3, 2}), "[M=", key.size(0),
                ", 3, 2]");
    check_same_device(op, "key", key, "query", query);
    check_same_device(op, "query_extent", query_view, "query", query);
    check_same_device(op, "key_extent", key_view, "query", query);
    query_extent = dense_as(query_view, ScalarType::Double);
    key_extent = dense_as(key_view, ScalarType::Double);
    check_volume(op, "query_extent", query_extent);
    check_volume(op, "key_extent", key_extent);
    args = {data_of<double>(query_extent),
            data_of<double>(key_extent),
            batch,
            key.size(0),
            views,
            {{query.size(2), query.size(3), query.size(4)}},
            {{key.size(1), key.size(2), key.size(3)}}};
  }
};

Shape rows_of(const Tensor& query) {
  return {query.size(0), query.size(1), query.size(2), query.size(3), query.size(4)};
}

// The sizes of a tensor, or nothing where it is not wanted.
Shape sizes_if(bool wanted, const Tensor& tensor) {
  return wanted ? Shape(tensor.sizes().begin(), tensor.sizes().end()) : Shape{0};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> region_contrast(const Tensor& query,  // [B, V, t, h, w, D]
                                                                   const Tensor& key,    // [M, t', h', w', D]
                                                                   const OptionalTensor& temperature,
                                                                   const Tensor& query_extent,  // [B, V, 3, 2]
                                                                   const Tensor& key_extent,    // [M, 3, 2]
                                                                   double temperature_value, bool query_gradient,
                                                                   bool key_gradient, bool tf32) {
  constexpr const char* kOp = "region_contrast";
  const Pairs pairs(kOp, query, key, query_extent, key_extent);
  const GivenTemperature given(kOp, temperature, temperature_value, query);
  check_products(kOp, "key", query, key.scalar_type());
  const Tensor query_values = dense(query), key_values = dense(key);
  const ScalarType kept = accumulation_type(key);
  const Tensor loss = empty(Shape{}, kept, query);
  const Tensor log_sum_exp = empty(rows_of(query), kept, query);
  const Tensor weight = empty(rows_of(query), kept, query);
  const Tensor difference = empty(sizes_if(query_gradient, query), kept, query);
  const bool by_forward = key_gradient && forward_makes_key_gradient(query);
  const Tensor expected_query = empty(sizes_if(by_forward, key), kept, query);

  RegionContrastForward args{};
  args.dtype = dtype_of(key);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.pairs = pairs.args;
  args.dim = query.size(5);
  args.temperature = *given;
  args.tf32 = tf32;
  args.loss = loss.mutable_data_ptr();
  args.log_sum_exp = log_sum_exp.mutable_data_ptr();
  args.weight = weight.mutable_data_ptr();
  args.expected_difference = query_gradient ? difference.mutable_data_ptr() : nullptr;
  args.expected_query = by_forward ? expected_query.mutable_data_ptr() : nullptr;
  args.types.query = dtype_of(query);

  MOTIONOPS_DISPATCH(
      kOp, query, region_contrast_forward_cpu(args, parallel),
      region_contrast_forward_cuda(args, workspace(region_contrast_workspace_bytes(args), query).data_ptr(), stream));
  return {loss, log_sum_exp, weight, difference, expected_query};
}

std::tuple<Tensor, Tensor> region_contrast_backward(
    const Tensor& grad_loss,  // []
    const Tensor& query,      // [B, V, t, h, w, D]
    const Tensor& key,        // [M, t', h', w', D]
    const OptionalTensor& temperature,
    const Tensor& query_extent,    // [B, V, 3, 2]
    const Tensor& key_extent,      // [M, 3, 2]
    const Tensor& log_sum_exp,     // [B, V, t, h, w]
    const Tensor& weight,          // [B, V, t, h, w]
    const Tensor& difference,      // as query, or [0] where query_gradient is false
    const Tensor& expected_query,  // as key, or [0] where the forward pass did not make it
    double temperature_value, bool query_gradient, bool key_gradient, bool tf32) {
  constexpr const char* kOp = "region_contrast_backward";
  const Pairs pairs(kOp, query, key, query_extent, key_extent);
  check_grad_loss(kOp, grad_loss, query);
  const GivenTemperature given(kOp, temperature, temperature_value, query);
  check_products(kOp, "key", query, key.scalar_type());
  const ScalarType kept = accumulation_type(key);
  check_saved(kOp, "log_sum_exp", log_sum_exp, rows_of(query), kept, query);
  check_saved(kOp, "weight", weight, rows_of(query), kept, query);
  if (query_gradient) check_saved(kOp, "expected_difference", difference, query.sizes(), kept, query);
  if (key_gradient && forward_makes_key_gradient(query) && !is_meta(query)) {
    check_saved(kOp, "expected_query", expected_query, key.sizes(), kept, query);
  }

  const Tensor query_values = dense(query), key_values = dense(key);
  const Tensor statistics[] = {dense(log_sum_exp), dense(weight), dense(difference), dense(expected_query)};
  const Tensor grad_query = empty(sizes_if(query_gradient, query), query);
  const Tensor grad_key = empty(sizes_if(key_gradient, key), key);

  RegionContrastBackward args{};
  args.dtype = dtype_of(key);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.pairs = pairs.args;
  args.dim = query.size(5);
  args.temperature = *given;
  args.tf32 = tf32;
  args.grad_loss = grad_loss.const_data_ptr();
  args.log_sum_exp = statistics[0].const_data_ptr();
  args.weight = statistics[1].const_data_ptr();
  args.expected_difference = statistics[2].const_data_ptr();
  args.expected_query = statistics[3].const_data_ptr();
  args.grad_query = query_gradient ? grad_query.mutable_data_ptr() : nullptr;
  args.grad_key = key_gradient ? grad_key.mutable_data_ptr() : nullptr;
  args.types = stored_types(query, key, grad_loss);

  MOTIONOPS_DISPATCH(kOp, query, region_contrast_backward_cpu(args, parallel),
                     region_contrast_backward_cuda(
                         args, workspace(region_contrast_backward_workspace_bytes(args), query).data_ptr(), stream));
  return {grad_query, grad_key};
}

MOTIONOPS_DEFINE(
    "region_contrast(Tensor query, Tensor key, Tensor? temperature, Tensor query_extent, Tensor key_extent, float "
    "temperature_value, bool query_gradient, bool key_gradient, bool tf32) -> (Tensor loss, Tensor log_sum_exp, "
    "Tensor weight, Tensor expected_difference, Tensor expected_query)",
    region_contrast);
MOTIONOPS_DEFINE(
    "region_contrast_backward(Tensor grad_loss, Tensor query, Tensor key, Tensor? temperature, Tensor "
    "query_extent, Tensor key_extent, Tensor log_sum_exp, Tensor weight, Tensor expected_difference, Tensor "
    "expected_query, float temperature_value, bool query_gradient, bool key_gradient, bool tf32) -> (Tensor "
    "grad_query, Tensor grad_key)",
    region_contrast_backward);

}  // namespace
}  // namespace motionops
