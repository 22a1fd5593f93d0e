// Schema, checks and dispatch of tvl1_flow.
#include "flow/tvl1_flow.h"

#include <cmath>

#include "core/torch_binding.h"

namespace motionops {
namespace {

constexpr const char* kOp = "tvl1_flow";

void check_image(const char* argument, const Tensor& image) {
  const ScalarType type = type_of(image);
  check_type(type == ScalarType::Byte || is_floating(type), kOp, argument,
             " must be uint8, float32, float64, bfloat16 or float16, got ", dtype_name(type));
}

void check_parameter(const char* name, bool right, const char* expected, double got) {
  check_value(right, kOp, name, " must be ", expected, ", got ", got);
}

Tensor tvl1_flow(const Tensor& previous, const Tensor& following, double tau, double smoothness, double tightness,
                 int64_t scales, double scale_step, int64_t warps, int64_t iterations, int64_t median) {
  check_image("previous", previous);
  check_same_dtype(kOp, "following", following, "previous", previous);
  check_same_device(kOp, "following", following, "previous", previous);
  check_shape(kOp, "previous", previous, previous.dim() == 3, "[N, H, W]");
  check_shape(kOp, "following", following, following.sizes() == previous.sizes(), sizes_text(previous.sizes()),
              " as previous is");
  check_parameter("tau", tau > 0 && std::isfinite(tau), "above 0", tau);
  check_parameter("smoothness", smoothness > 0 && std::isfinite(smoothness), "above 0", smoothness);
  check_parameter("tightness", tightness > 0 && std::isfinite(tightness), "above 0", tightness);
  check_parameter("scales", scales >= 1, "1 or more", static_cast<double>(scales));
  check_parameter("scale_step", scale_step > 0 && scale_step < 1, "between 0 and 1", scale_step);
  check_parameter("warps", warps >= 0, "0 or more", static_cast<double>(warps));
  check_parameter("iterations", iterations >= 0, "0 or more", static_cast<double>(iterations));
  check_parameter("median", median == 1 || median == 3 || median == 5, "1, 3 or 5", static_cast<double>(median));

  const ScalarType real = accumulation_type(previous);
  const Tensor first = dense_as(previous, real), second = dense_as(following, real);
  const Tensor flow = empty(Shape{first.size(0), 2, first.size(1), first.size(2)}, first);
  if (flow.numel() == 0) return flow;
  const Tvl1Flow args{dtype_of(first),
                      first.const_data_ptr(),
                      second.const_data_ptr(),
                      flow.mutable_data_ptr(),
                      first.size(0),
                      first.size(1),
                      first.size(2),
                      tau,
                      smoothness,
                      tightness,
                      scales,
                      scale_step,
                      warps,
                      iterations,
                      median};
  MOTIONOPS_DISPATCH(
      kOp, first, tvl1_flow_forward_cpu(args, parallel),
      tvl1_flow_forward_cuda(args, workspace(tvl1_flow_workspace_bytes(args), first).data_ptr(), stream));
  return flow;
}

MOTIONOPS_DEFINE(
    "tvl1_flow(Tensor previous, Tensor following, float tau, float smoothness, float tightness, int scales, "
    "float scale_step, int warps, int iterations, int median) -> Tensor",
    tvl1_flow);

}  // namespace
}  // namespace motionops
