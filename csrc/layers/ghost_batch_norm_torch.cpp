// Schema, checks and dispatch of ghost_batch_norm.
#include "layers/ghost_batch_norm.h"

#include <initializer_list>
#include <limits>
#include <tuple>
#include <vector>

#include "core/torch_binding.h"

namespace motionops {
namespace {

// Positions of a sample, where the axes behind the channels run together and the channels are the fastest.
int64_t positions_of(const char* op, const char* argument, const Tensor& input) {
  check_shape(op, argument, input, input.dim() >= 2, "[N, C, ...]");
  int64_t step = 1;
  const auto is_next = [&](int64_t axis) {
    const bool right = input.size(axis) == 1 || input.stride(axis) == step;
    step *= input.size(axis);
    return right;
  };
  bool dense = is_next(1);
  for (int64_t axis = input.dim(); --axis > 1;) dense = is_next(axis) && dense;
  const int64_t positions = input.size(1) == 0 ? 0 : step / input.size(1);
  dense = is_next(0) && dense;
  check_value(dense || input.numel() == 0, op, argument, " must be dense with its channels last in memory");
  return positions;
}

void check_groups(const char* op, const std::vector<int64_t>& groups, const Tensor& input) {
  int64_t samples = 0;
  for (const int64_t group : groups) {
    check_value(group >= 1, op, "groups must be numbers of samples, at least 1 each, got ", group);
    // before it is added: a sum beyond int64 may come out as N
    check_value(group <= input.size(0) - samples, op, "groups must add up to N=", input.size(0), " samples, got more");
    samples += group;
  }
  check_value(samples == input.size(0), op, "groups must add up to N=", input.size(0), " samples, got ", samples);
  check_value(samples <= std::numeric_limits<int32_t>::max(), op, "input must have fewer than 2^31 samples");
}

void check_channels(const char* op, const char* argument, const OptionalTensor& values, const Tensor& input) {
  if (!values.has_value()) return;
  check_dtype(op, argument, *values, accumulation_type(input));
  check_shape(op, argument, *values, values->dim() == 1 && values->size(0) == input.size(1), "[C=", input.size(1), "]");
  check_same_device(op, argument, *values, "input", input);
}

// A tensor of the input's shape and layout.
void check_alike(const char* op, const char* argument, const Tensor& tensor, const Tensor& input) {
  check_same_dtype(op, argument, tensor, "input", input);
  check_shape(op, argument, tensor, same_sizes(tensor, input.sizes()), sizes_text(input.sizes()), " as input is");
  check_same_device(op, argument, tensor, "input", input);
  positions_of(op, argument, tensor);
}

void check_statistics(const char* op, const char* argument, const Tensor& tensor, int64_t groups, const Tensor& input) {
  check_dtype(op, argument, tensor, accumulation_type(input));
  check_shape(op, argument, tensor, same_sizes(tensor, Shape{groups, input.size(1)}), "[G=", groups,
              ", C=", input.size(1), "]");
  check_same_device(op, argument, tensor, "input", input);
}

// Of no values there are no launches.
void fill_with_zeros(std::initializer_list<Tensor> tensors) {
  for (Tensor tensor : tensors) torch::stable::zero_(tensor);
}

void check_eps(const char* op, double eps) { check_value(eps >= 0, op, "eps must not be negative, got ", eps); }

std::tuple<Tensor, Tensor, Tensor> ghost_batch_norm(const Tensor& input,             // [N, C, ...]
                                                    const OptionalTensor& weight,    // [C]
                                                    const OptionalTensor& bias,      // [C]
                                                    const OptionalTensor& residual,  // [N, C, ...]
                                                    std::vector<int64_t> groups, double eps, bool relu) {
  constexpr const char* kOp = "ghost_batch_norm";
  check_floating(kOp, "input", input);
  const int64_t positions = positions_of(kOp, "input", input);
  check_groups(kOp, groups, input);
  check_channels(kOp, "weight", weight, input);
  check_channels(kOp, "bias", bias, input);
  if (residual.has_value()) check_alike(kOp, "residual", *residual, input);
  check_eps(kOp, eps);

  const auto group_count = static_cast<int64_t>(groups.size());
  const OptionalTensor weights = dense(weight), biases = dense(bias);
  const Tensor output = torch::stable::empty_like(input);
  const Tensor mean = empty(Shape{group_count, input.size(1)}, accumulation_type(input), input);
  const Tensor var = empty(Shape{group_count, input.size(1)}, accumulation_type(input), input);
  GhostBatchNormForward args{};
  args.dtype = dtype_of(input);
  args.input = input.const_data_ptr();
  args.residual = data_or_null(residual);
  args.weight = data_or_null(weights);
  args.bias = data_or_null(biases);
  args.output = output.mutable_data_ptr();
  args.mean = mean.mutable_data_ptr();
  args.var = var.mutable_data_ptr();
  args.groups = groups.data();
  args.group_count = group_count;
  args.positions = positions;
  args.channels = input.size(1);
  args.eps = eps;
  args.relu = relu;
  if (input.numel() == 0) fill_with_zeros({mean, var});
  MOTIONOPS_DISPATCH(kOp, input, ghost_batch_norm_forward_cpu(args, parallel),
                     ghost_batch_norm_forward_cuda(
                         args, workspace(ghost_batch_norm_workspace_bytes(args), input).mutable_data_ptr(), stream));
  return {output, mean, var};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> ghost_batch_norm_backward(
    const Tensor& grad_output,     // [N, C, ...]
    const Tensor& input,           // [N, C, ...]
    const OptionalTensor& weight,  // [C]
    const OptionalTensor& bias,    // [C]
    const OptionalTensor& output,  // [N, C, ...]: there has been a residual before ReLU
    const Tensor& mean,            // [G, C]
    const Tensor& var,             // [G, C]
    std::vector<int64_t> groups, double eps, bool relu) {
  constexpr const char* kOp = "ghost_batch_norm_backward";
  check_floating(kOp, "input", input);
  const int64_t positions = positions_of(kOp, "input", input);
  check_alike(kOp, "grad_output", grad_output, input);
  check_groups(kOp, groups, input);
  check_channels(kOp, "weight", weight, input);
  check_channels(kOp, "bias", bias, input);
  check_value(relu || !output.has_value(), kOp, "output must be None without relu");
  if (output.has_value()) check_alike(kOp, "output", *output, input);
  const auto group_count = static_cast<int64_t>(groups.size());
  check_statistics(kOp, "mean", mean, group_count, input);
  check_statistics(kOp, "var", var, group_count, input);
  check_eps(kOp, eps);

  const OptionalTensor weights = dense(weight), biases = dense(bias);
  const Tensor statistics[] = {dense(mean), dense(var)};
  const Tensor grad_input = torch::stable::empty_like(input);
  const Tensor grad_weight = empty(Shape{input.size(1)}, accumulation_type(input), input);
  const Tensor grad_bias = empty(Shape{input.size(1)}, accumulation_type(input), input);
  const Tensor grad_residual =
      output.has_value() ? torch::stable::empty_like(input) : empty(Shape{0}, input.scalar_type(), input);
  GhostBatchNormBackward args{};
  args.dtype = dtype_of(input);
  args.grad_output = grad_output.const_data_ptr();
  args.input = input.const_data_ptr();
  args.output = data_or_null(output);
  args.weight = data_or_null(weights);
  args.bias = data_or_null(biases);
  args.mean = statistics[0].const_data_ptr();
  args.var = statistics[1].const_data_ptr();
  args.grad_input = grad_input.mutable_data_ptr();
  args.grad_residual = output.has_value() ? grad_residual.mutable_data_ptr() : nullptr;
  args.grad_weight = grad_weight.mutable_data_ptr();
  args.grad_bias = grad_bias.mutable_data_ptr();
  args.groups = groups.data();
  args.group_count = group_count;
  args.positions = positions;
  args.channels = input.size(1);
  args.eps = eps;
  args.relu = relu;
  if (input.numel() == 0) fill_with_zeros({grad_weight, grad_bias});
  MOTIONOPS_DISPATCH(
      kOp, input, ghost_batch_norm_backward_cpu(args, parallel),
      ghost_batch_norm_backward_cuda(
          args, workspace(ghost_batch_norm_backward_workspace_bytes(args), input).mutable_data_ptr(), stream));
  return {grad_input, grad_weight, grad_bias, grad_residual};
}

MOTIONOPS_DEFINE(
    "ghost_batch_norm(Tensor input, Tensor? weight, Tensor? bias, Tensor? residual, int[] groups, float eps, "
    "bool relu) -> (Tensor output, Tensor mean, Tensor var)",
    ghost_batch_norm);
MOTIONOPS_DEFINE(
    "ghost_batch_norm_backward(Tensor grad_output, Tensor input, Tensor? weight, Tensor? bias, Tensor? output, "
    "Tensor mean, Tensor var, int[] groups, float eps, bool relu) -> "
    "(Tensor grad_input, Tensor grad_weight, Tensor grad_bias, Tensor grad_residual)",
    ghost_batch_norm_backward);

}  // namespace
}  // namespace motionops
