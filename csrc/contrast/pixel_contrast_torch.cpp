// pixel_contrast: schema, checks, dispatch.
#include "contrast/pixel_contrast.h"

#include <tuple>

#include "contrast/contrast_binding.h"

namespace motionops {
namespace {

// `samples` is "B=" or "M=", and `count` of them.
void check_extent(const char* op, const char* argument, const Tensor& extent, const char* samples, int64_t count,
                  const Tensor& query) {
  check_floating(op, argument, extent);
  check_shape(op, argument, extent, same_sizes(extent, Shape{count, 3, 2}), "[", samples, count, ", 3, 2]");
  check_same_device(op, argument, extent, "query", query);
}

// A mask of B samples, or of `count` >= B, of which the first B are looked at: only they have positives.
void check_mask(const char* op, const char* argument, const OptionalTensor& mask, int64_t count, const Tensor& query) {
  if (!mask.has_value()) return;
  check_dtype(op, argument, *mask, ScalarType::Bool);
  const int64_t batch = query.size(0), frames = query.size(1), height = query.size(2), width = query.size(3);
  const bool right = (mask->dim() == 3 || (mask->dim() == 4 && mask->size(1) == frames)) &&
                     (mask->size(0) == batch || mask->size(0) == count) && mask->size(mask->dim() - 2) == height &&
                     mask->size(mask->dim() - 1) == width;
  if (!right) [[unlikely]] {
    const std::string samples = text_of("[B=", batch) + (count == batch ? "" : text_of(" or M=", count));
    const std::string picture = text_of(", H=", height, ", W=", width, "]");
    check_shape(op, argument, *mask, false, samples, picture, " or ", samples, ", T=", frames, picture);
  }
  check_same_device(op, argument, *mask, "query", query);
}

void check_maps(const char* op, const Tensor& query, const Tensor& key) {
  check_floating(op, "query", query);
  check_floating(op, "key", key);
  check_shape(op, "query", query, query.dim() == 5 && query.size(4) >= 1, "[B, T, H, W, D >= 1]");
  check_shape(op, "key", key,
              key.dim() == 5 && key.size(0) >= query.size(0) && key.size(1) == query.size(1) &&
                  key.size(2) == query.size(2) && key.size(3) == query.size(3) && key.size(4) == query.size(4),
              "[M >= B=", query.size(0), ", T=", query.size(1), ", H=", query.size(2), ", W=", query.size(3),
              ", D=", query.size(4), "]");
  check_same_device(op, "key", key, "query", query);
}

void check_negatives(const char* op, const OptionalTensor& negatives, const Tensor& query) {
  if (!negatives.has_value()) return;
  check_floating(op, "negatives", *negatives);
  check_shape(op, "negatives", *negatives, negatives->dim() == 2 && negatives->size(1) == query.size(4),
              "[K, D=", query.size(4), "]");
  check_same_device(op, "negatives", *negatives, "query", query);
}

// Where the pixels lie and which of them count, checked. The tensors live as long as the launcher runs.
struct Pairs {
  Tensor query_extent;
  Tensor key_extent;
  OptionalTensor query_mask;
  OptionalTensor key_mask;
  PixelContrastPairs args{};

  Pairs(const char* op, const Tensor& query, const Tensor& key, const Tensor& query_view, const Tensor& key_view,
        const OptionalTensor& of_query, const OptionalTensor& of_key, double radius) {
    check_extent(op, "query_extent", query_view, "B=", query.size(0), query);
    check_extent(op, "key_extent", key_view, "M=", key.size(0), query);
    check_mask(op, "query_mask", of_query, query.size(0), query);
    check_mask(op, "key_mask", of_key, key.size(0), query);
    check_positive(op, "radius", radius);
    query_extent = dense_as(query_view, ScalarType::Double);
    key_extent = dense_as(key_view, ScalarType::Double);
    query_mask = dense(of_query);
    key_mask = dense(of_key);
    args.query_extent = data_of<double>(query_extent);
    args.key_extent = data_of<double>(key_extent);
    args.query_mask = data_or_null<bool>(query_mask);
    args.key_mask = data_or_null<bool>(key_mask);
    args.query_mask_of_frames = of_query.has_value() && of_query->dim() == 4;
    args.key_mask_of_frames = of_key.has_value() && of_key->dim() == 4;
    args.batch = query.size(0);
    args.key_batch = key.size(0);
    args.frames = query.size(1);
    args.height = query.size(2);
    args.width = query.size(3);
    args.radius = radius;
  }
};

Shape pixels_of(const Tensor& query) { return {query.size(0), query.size(1), query.size(2), query.size(3)}; }

// The shape of a map, with no sample in it where the map is not wanted.
Shape map_shape(const Tensor& map, bool wanted) {
  return {wanted ? map.size(0) : 0, map.size(1), map.size(2), map.size(3), map.size(4)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> pixel_contrast(
    const Tensor& query,  // [B, T, H, W, D]
    const Tensor& key,    // [M, T, H, W, D]
    const OptionalTensor& temperature,
    const Tensor& query_extent,        // [B, 3, 2]
    const Tensor& key_extent,          // [M, 3, 2]
    const OptionalTensor& query_mask,  // [B, H, W] or [B, T, H, W]
    const OptionalTensor& key_mask,    // the same
    const OptionalTensor& negatives,   // [K, D]
    double radius, double temperature_value, bool query_gradient, bool tf32) {
  constexpr const char* kOp = "pixel_contrast";
  check_maps(kOp, query, key);
  check_negatives(kOp, negatives, query);
  const Pairs pairs(kOp, query, key, query_extent, key_extent, query_mask, key_mask, radius);
  const GivenTemperature given(kOp, temperature, temperature_value, query);
  const ScalarType products = negatives.has_value() ? negatives->scalar_type() : key.scalar_type();
  check_products(kOp, negatives.has_value() ? "negatives" : "key", query, products);

  const Tensor query_values = dense(query), key_values = dense(key);
  const OptionalTensor negative_values = dense(negatives);
  const ScalarType kept = accumulation_type(products);
  const Shape pixels = pixels_of(query);
  const Tensor loss = empty(Shape{}, kept, query);
  const Tensor log_sum_exp = empty(pixels, kept, query);
  const Tensor log_sum_exp_positives = empty(pixels, kept, query);
  const Tensor weight = empty(pixels, kept, query);
  const Tensor expected_difference = empty(map_shape(query, query_gradient), kept, query);

  PixelContrastForward args{};
  args.dtype = dtype_of(products);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.negatives = data_or_null(negative_values);
  args.pairs = pairs.args;
  args.dim = query.size(4);
  args.negative_rows = negatives.has_value() ? negatives->size(0) : 0;
  args.temperature = *given;
  args.tf32 = tf32;
  args.loss = loss.mutable_data_ptr();
  args.log_sum_exp = log_sum_exp.mutable_data_ptr();
  args.log_sum_exp_positives = log_sum_exp_positives.mutable_data_ptr();
  args.weight = weight.mutable_data_ptr();
  args.expected_difference = query_gradient ? expected_difference.mutable_data_ptr() : nullptr;
  args.types.query = dtype_of(query);
  args.types.key = dtype_of(key);

  MOTIONOPS_DISPATCH(
      kOp, query, pixel_contrast_forward_cpu(args, parallel),
      pixel_contrast_forward_cuda(args, workspace(pixel_contrast_workspace_bytes(args), query).data_ptr(), stream));
  return {loss, log_sum_exp, log_sum_exp_positives, weight, expected_difference};
}

std::tuple<Tensor, Tensor> pixel_contrast_backward(
    const Tensor& grad_loss,  // []
    const Tensor& query,      // [B, T, H, W, D]
    const Tensor& key,        // [M, T, H, W, D]
    const OptionalTensor& temperature,
    const Tensor& query_extent,           // [B, 3, 2]
    const Tensor& key_extent,             // [M, 3, 2]
    const OptionalTensor& query_mask,     // [B, H, W] or [B, T, H, W]
    const OptionalTensor& key_mask,       // the same
    const Tensor& log_sum_exp,            // [B, T, H, W]
    const Tensor& log_sum_exp_positives,  // [B, T, H, W]
    const Tensor& weight,                 // [B, T, H, W]
    const Tensor& expected_difference,    // [B, T, H, W, D], or empty where query_gradient is false
    double radius, double temperature_value, ScalarType products, bool query_gradient, bool key_gradient, bool tf32) {
  constexpr const char* kOp = "pixel_contrast_backward";
  check_maps(kOp, query, key);
  check_grad_loss(kOp, grad_loss, query);
  const Pairs pairs(kOp, query, key, query_extent, key_extent, query_mask, key_mask, radius);
  const GivenTemperature given(kOp, temperature, temperature_value, query);
  check_floating(kOp, "products", products);
  check_products(kOp, "products", query, products);
  const ScalarType kept = accumulation_type(products);
  const Shape pixels = pixels_of(query);
  check_saved(kOp, "log_sum_exp", log_sum_exp, pixels, kept, query);
  check_saved(kOp, "log_sum_exp_positives", log_sum_exp_positives, pixels, kept, query);
  check_saved(kOp, "weight", weight, pixels, kept, query);
  if (query_gradient) check_saved(kOp, "expected_difference", expected_difference, query.sizes(), kept, query);

  const Tensor query_values = dense(query), key_values = dense(key);
  const Tensor statistics[] = {dense(log_sum_exp), dense(log_sum_exp_positives), dense(weight),
                               dense(expected_difference)};
  const Tensor grad_query = empty(map_shape(query, query_gradient), query);
  const Tensor grad_key = empty(map_shape(key, key_gradient), key);

  PixelContrastBackward args{};
  args.dtype = dtype_of(products);
  args.query = query_values.const_data_ptr();
  args.key = key_values.const_data_ptr();
  args.pairs = pairs.args;
  args.dim = query.size(4);
  args.temperature = *given;
  args.tf32 = tf32;
  args.grad_loss = grad_loss.const_data_ptr();
  args.log_sum_exp = statistics[0].const_data_ptr();
  args.log_sum_exp_positives = statistics[1].const_data_ptr();
  args.weight = statistics[2].const_data_ptr();
  args.expected_difference = statistics[3].const_data_ptr();
  args.grad_query = query_gradient ? grad_query.mutable_data_ptr() : nullptr;
  args.grad_key = key_gradient ? grad_key.mutable_data_ptr() : nullptr;
  args.types = stored_types(query, key, grad_loss);

  MOTIONOPS_DISPATCH(kOp, query, pixel_contrast_backward_cpu(args, parallel),
                     pixel_contrast_backward_cuda(
                         args, workspace(pixel_contrast_backward_workspace_bytes(args), query).data_ptr(), stream));
  return {grad_query, grad_key};
}

MOTIONOPS_DEFINE(
    "pixel_contrast(Tensor query, Tensor key, Tensor? temperature, Tensor query_extent, Tensor key_extent, "
    "Tensor? query_mask, Tensor? key_mask, Tensor? negatives, float radius, float temperature_value, bool "
    "query_gradient, bool tf32) -> (Tensor loss, Tensor log_sum_exp, Tensor log_sum_exp_positives, Tensor weight, "
    "Tensor expected_difference)",
    pixel_contrast);
MOTIONOPS_DEFINE(
    "pixel_contrast_backward(Tensor grad_loss, Tensor query, Tensor key, Tensor? temperature, Tensor "
    "query_extent, Tensor key_extent, Tensor? query_mask, Tensor? key_mask, Tensor log_sum_exp, Tensor "
    "log_sum_exp_positives, Tensor weight, Tensor expected_difference, float radius, float temperature_value, "
    "ScalarType products, bool query_gradient, bool key_gradient, bool tf32) -> (Tensor grad_query, Tensor "
    "grad_key)",
    pixel_contrast_backward);

}  // namespace
}  // namespace motionops
