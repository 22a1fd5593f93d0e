// Schema, checks and dispatch of flow_edges.
#include "flow/flow_edges.h"

#include "flow/flow_binding.h"

namespace motionops {
namespace {

constexpr const char* kOp = "flow_edges";

void check_max_value(const char* op, double max_value) {
  check_value(max_value > 0, op, "max_value must be > 0, got ", max_value);
}

Shape edge_shape(const Tensor& flow) { return {flow.size(0), flow.size(1), flow.size(3), flow.size(4)}; }

Tensor flow_edges(const Tensor& flow, double max_value) {
  const Tensor source = checked_flow(kOp, flow);
  check_max_value(kOp, max_value);
  const Tensor edges = empty(edge_shape(flow), flow);
  if (edges.numel() == 0) return edges;
  const FlowEdges args{flow_images(source), max_value, edges.mutable_data_ptr(), nullptr, nullptr};
  MOTIONOPS_DISPATCH(kOp, source, flow_edges_forward_cpu(args, parallel), flow_edges_forward_cuda(args, stream));
  return edges;
}

Tensor flow_edges_backward(const Tensor& grad_edges, const Tensor& flow, double max_value) {
  constexpr const char* kBackward = "flow_edges_backward";
  const Tensor source = checked_flow(kBackward, flow);
  check_max_value(kBackward, max_value);
  check_shape(kBackward, "grad_edges", grad_edges, same_sizes(grad_edges, edge_shape(flow)), "[B, T, H, W] of flow ",
              sizes_text(flow.sizes()));
  check_same_dtype(kBackward, "grad_edges", grad_edges, "flow", flow);
  check_same_device(kBackward, "grad_edges", grad_edges, "flow", flow);
  const Tensor grad = dense(grad_edges);
  const Tensor grad_flow = empty(flow.sizes(), flow);
  if (grad_flow.numel() == 0) return grad_flow;
  const FlowEdges args{flow_images(source), max_value, nullptr, grad.const_data_ptr(), grad_flow.mutable_data_ptr()};
  MOTIONOPS_DISPATCH(kBackward, source, flow_edges_backward_cpu(args, parallel),
                     flow_edges_backward_cuda(args, stream));
  return grad_flow;
}

MOTIONOPS_DEFINE("flow_edges(Tensor flow, float max_value) -> Tensor", flow_edges);
MOTIONOPS_DEFINE("flow_edges_backward(Tensor grad_edges, Tensor flow, float max_value) -> Tensor", flow_edges_backward);

}  // namespace
}  // namespace motionops
