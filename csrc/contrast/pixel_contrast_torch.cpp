// pixel_contrast: schema, checks, dispatch.
#include "contrast/pixel_contrast.h"

#include <ATen/Context.h>

#include <tuple>

#include "contrast/contrast_binding.h"

namespace motionops {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

constexpr const char* kOp = "pixel_contrast";

void check_extent(const char* argument, const Tensor& extent, const Tensor& query) {
  check_floating(kOp, argument, extent);
  check_shape(kOp, argument, extent,
              extent.dim() == 3 && extent.size(0) == query.size(0) && extent.size(1) == 3 && extent.size(2) == 2,
              "[B=", query.size(0), ", 3, 2]");
  check_same_device(kOp, argument, extent, "query", query);
}

void check_mask(const char* argument, const OptionalTensor& mask, const Tensor& query) {
  if (!mask.has_value()) return;
  check_dtype(kOp, argument, *mask, at::kBool);
  check_shape(kOp, argument, *mask,
              mask->dim() == 3 && mask->size(0) == query.size(0) && mask->size(1) == query.size(2) &&
                  mask->size(2) == query.size(3),
              "[B=", query.size(0), ", H=", query.size(2), ", W=", query.size(3), "]");
  check_same_device(kOp, argument, *mask, "query", query);
}

void check_features(const Tensor& query, const Tensor& key, const OptionalTensor& negatives) {
  check_floating(kOp, "query", query);
  check_floating(kOp, "key", key);
  check_shape(kOp, "query", query, query.dim() == 5 && query.size(4) >= 1, "[B, T, H, W, D >= 1]");
  check_shape(kOp, "key", key, key.sizes() == query.sizes(), "[B=", query.size(0), ", T=", query.size(1),
              ", H=", query.size(2), ", W=", query.size(3), ", D=", query.size(4), "]");
  check_same_device(kOp, "key", key, "query", query);
  if (!negatives.has_value()) return;
  check_floating(kOp, "negatives", *negatives);
  check_shape(kOp, "negatives", *negatives, negatives->dim() == 2 && negatives->size(1) == query.size(4),
              "[K, D=", query.size(4), "]");
  check_same_device(kOp, "negatives", *negatives, "query", query);
}

// The tensors behind PixelContrastPairs: they live as long as the launcher runs.
struct Pairs {
  Tensor query_extent;
  Tensor key_extent;
  OptionalTensor query_mask;
  OptionalTensor key_mask;

  Pairs(const Tensor& query_view, const Tensor& key_view, const OptionalTensor& of_query, const OptionalTensor& of_key)
      : query_extent(query_view.to(at::kDouble).contiguous()),
        key_extent(key_view.to(at::kDouble).contiguous()),
        query_mask(contiguous(of_query)),
        key_mask(contiguous(of_key)) {}

  PixelContrastPairs args(const Tensor& query, double radius) const {
    PixelContrastPairs pairs{};
    pairs.query_extent = query_extent.const_data_ptr<double>();
    pairs.key_extent = key_extent.const_data_ptr<double>();
    pairs.query_mask = static_cast<const bool*>(data_or_null(query_mask));
    pairs.key_mask = static_cast<const bool*>(data_or_null(key_mask));
    pairs.batch = query.size(0);
    pairs.frames = query.size(1);
    pairs.height = query.size(2);
    pairs.width = query.size(3);
    pairs.radius = radius;
    return pairs;
  }
};

bool tf32_allowed() { return at::globalContext().float32MatmulPrecision() != at::Float32MatmulPrecision::HIGHEST; }

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> pixel_contrast(const Tensor& query,               // [B, T, H, W, D]
                                                                  const Tensor& key,                 // [B, T, H, W, D]
                                                                  const Tensor& query_extent,        // [B, 3, 2]
                                                                  const Tensor& key_extent,          // [B, 3, 2]
                                                                  const OptionalTensor& query_mask,  // [B, H, W]
                                                                  const OptionalTensor& key_mask,    // [B, H, W]
                                                                  const OptionalTensor& negatives,   // [K, D]
                                                                  double radius, double temperature,
                                                                  bool query_gradient) {
  check_features(query, key, negatives);
  check_extent("query_extent", query_extent, query);
  check_extent("key_extent", key_extent, query);
  check_mask("query_mask", query_mask, query);
  check_mask("key_mask", key_mask, query);
  check_positive(kOp, "radius", radius);
  check_positive(kOp, "temperature", temperature);
  const at::ScalarType products = negatives.has_value() ? negatives->scalar_type() : key.scalar_type();
  check_products(kOp, negatives.has_value() ? "negatives" : "key", query, products);

  const Tensor query_values = for_products(query, products);
  const Tensor key_values = for_products(key, products);
  const OptionalTensor negative_values = contiguous(negatives);
  const Pairs pairs(query_extent, key_extent, query_mask, key_mask);

  const auto kept = query.options().dtype(accumulation_type(key_values));
  const auto pixels = query.sizes().slice(0, 4);
  std::vector<int64_t> difference_shape = query.sizes().vec();
  if (!query_gradient) difference_shape[0] = 0;
  const Tensor loss = at::empty({}, kept);
  const Tensor log_sum_exp = at::empty(pixels, kept);
  const Tensor log_sum_exp_positives = at::empty(pixels, kept);
  const Tensor weight = at::empty(pixels, kept);
  const Tensor expected_difference = at::empty(difference_shape, kept);

  PixelContrastForward args{};
  args.dtype = dtype_of(key_values);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.negatives = data_or_null(negative_values);
  args.pairs = pairs.args(query, radius);
  args.dim = query.size(4);
  args.negative_rows = negatives.has_value() ? negatives->size(0) : 0;
  args.temperature = temperature;
  args.tf32 = tf32_allowed();
  args.loss = loss.mutable_data_ptr();
  args.log_sum_exp = log_sum_exp.mutable_data_ptr();
  args.log_sum_exp_positives = log_sum_exp_positives.mutable_data_ptr();
  args.weight = weight.mutable_data_ptr();
  args.expected_difference = query_gradient ? expected_difference.mutable_data_ptr() : nullptr;

  MOTIONOPS_DISPATCH(
      kOp, query, pixel_contrast_forward_cpu(args, parallel),
      pixel_contrast_forward_cuda(args, workspace(pixel_contrast_workspace_bytes(args), query).data_ptr(), stream));
  return {loss, log_sum_exp, log_sum_exp_positives, weight, expected_difference};
}

std::tuple<Tensor, Tensor> pixel_contrast_backward(
    const Tensor& grad_loss,              // []
    const Tensor& query,                  // [B, T, H, W, D]
    const Tensor& key,                    // [B, T, H, W, D]
    const Tensor& query_extent,           // [B, 3, 2]
    const Tensor& key_extent,             // [B, 3, 2]
    const OptionalTensor& query_mask,     // [B, H, W]
    const OptionalTensor& key_mask,       // [B, H, W]
    const Tensor& log_sum_exp,            // [B, T, H, W]
    const Tensor& log_sum_exp_positives,  // [B, T, H, W]
    const Tensor& weight,                 // [B, T, H, W]
    const Tensor& expected_difference,    // [B, T, H, W, D], or empty where query_gradient is false
    double radius, double temperature, at::ScalarType products, bool query_gradient, bool key_gradient) {
  constexpr const char* kBackward = "pixel_contrast_backward";
  check_shape(kBackward, "expected_difference", expected_difference,
              expected_difference.dim() == 5 && (!query_gradient || expected_difference.sizes() == query.sizes()),
              "[B=", query.size(0), ", T=", query.size(1), ", H=", query.size(2), ", W=", query.size(3),
              ", D=", query.size(4), "]");
  const Tensor query_values = for_products(query, products);
  const Tensor key_values = for_products(key, products);
  const Pairs pairs(query_extent, key_extent, query_mask, key_mask);
  const auto kept = query.options().dtype(accumulation_type(key_values));
  const Tensor grad_loss_value = grad_loss.to(kept.dtype());
  std::vector<int64_t> nothing = query.sizes().vec();
  nothing[0] = 0;
  const Tensor grad_query = at::empty(query_gradient ? query.sizes() : nothing, kept);
  const Tensor grad_key = at::empty(key_gradient ? key.sizes() : nothing, kept);

  PixelContrastBackward args{};
  args.dtype = dtype_of(key_values);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.pairs = pairs.args(query, radius);
  args.dim = query.size(4);
  args.temperature = temperature;
  args.tf32 = tf32_allowed();
  args.grad_loss = grad_loss_value.const_data_ptr();
  args.log_sum_exp = log_sum_exp.const_data_ptr();
  args.log_sum_exp_positives = log_sum_exp_positives.const_data_ptr();
  args.weight = weight.const_data_ptr();
  args.expected_difference = expected_difference.const_data_ptr();
  args.grad_query = query_gradient ? grad_query.mutable_data_ptr() : nullptr;
  args.grad_key = key_gradient ? grad_key.mutable_data_ptr() : nullptr;

  MOTIONOPS_DISPATCH(kBackward, query, pixel_contrast_backward_cpu(args, parallel),
                     pixel_contrast_backward_cuda(
                         args, workspace(pixel_contrast_backward_workspace_bytes(args), query).data_ptr(), stream));
  return {grad_query.to(query.scalar_type()), grad_key.to(key.scalar_type())};
}

}  // namespace
}  // namespace motionops

TORCH_LIBRARY_FRAGMENT(MOTIONOPS_NAMESPACE, m) {
  motionops::define(m,
                    "pixel_contrast(Tensor query, Tensor key, Tensor query_extent, "
                    "Tensor key_extent, Tensor? query_mask, Tensor? key_mask, Tensor? negatives, "
                    "float radius, float temperature, bool query_gradient) -> "
                    "(Tensor loss, Tensor log_sum_exp, Tensor log_sum_exp_positives, "
                    "Tensor weight, Tensor expected_difference)",
                    &motionops::pixel_contrast);
  motionops::define(m,
                    "pixel_contrast_backward(Tensor grad_loss, Tensor query, Tensor key, "
                    "Tensor query_extent, Tensor key_extent, Tensor? query_mask, "
                    "Tensor? key_mask, Tensor log_sum_exp, Tensor log_sum_exp_positives, "
                    "Tensor weight, Tensor expected_difference, float radius, "
                    "float temperature, ScalarType products, bool query_gradient, "
                    "bool key_gradient) -> (Tensor grad_query, Tensor grad_key)",
                    &motionops::pixel_contrast_backward);
}
