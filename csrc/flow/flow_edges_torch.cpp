// Schema, checks and dispatch of flow_edges.
#include "flow/flow_edges.h"

#include "flow/flow_binding.h"

namespace motionops {
namespace {

constexpr const char* kOp = "flow_edges";

void check_max_value(double max_value) {
  TORCH_CHECK_VALUE(max_value > 0, kOp, ": max_value must be > 0, got ", max_value);
}

at::Tensor flow_edges(const at::Tensor& flow, double max_value) {
  const at::Tensor source = checked_flow(kOp, flow);
  check_max_value(max_value);
  const at::Tensor edges = at::empty({flow.size(0), flow.size(1), flow.size(3), flow.size(4)}, flow.options());
  if (edges.numel() == 0) return edges;
  const FlowEdges args{flow_images(source), max_value, edges.mutable_data_ptr(), nullptr, nullptr};
  MOTIONOPS_DISPATCH(kOp, source, flow_edges_forward_cpu(args, parallel), flow_edges_forward_cuda(args, stream));
  return edges;
}

at::Tensor flow_edges_backward(const at::Tensor& grad_edges, const at::Tensor& flow, double max_value) {
  const at::Tensor source = checked_flow(kOp, flow);
  check_max_value(max_value);
  check_shape(kOp, "grad_edges", grad_edges,
              grad_edges.sizes() == at::IntArrayRef({flow.size(0), flow.size(1), flow.size(3), flow.size(4)}),
              "[B, T, H, W] of flow ", shape_text(flow));
  check_same_dtype(kOp, "grad_edges", grad_edges, "flow", flow);
  check_same_device(kOp, "grad_edges", grad_edges, "flow", flow);
  const at::Tensor grad = grad_edges.contiguous();
  const at::Tensor grad_flow = at::empty(flow.sizes(), flow.options());
  if (grad_flow.numel() == 0) return grad_flow;
  const FlowEdges args{flow_images(source), max_value, nullptr, grad.const_data_ptr(), grad_flow.mutable_data_ptr()};
  MOTIONOPS_DISPATCH(kOp, source, flow_edges_backward_cpu(args, parallel), flow_edges_backward_cuda(args, stream));
  return grad_flow;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(MOTIONOPS_NAMESPACE, m) {
  define(m, "flow_edges(Tensor flow, float max_value) -> Tensor", &flow_edges);
  define(m, "flow_edges_backward(Tensor grad_edges, Tensor flow, float max_value) -> Tensor", &flow_edges_backward);
}

}  // namespace motionops
