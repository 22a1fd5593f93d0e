// Schema, checks and dispatch of motion_map.
#include "flow/motion_map.h"

#include <array>

#include "flow/flow_binding.h"

namespace motionops {
namespace {

using Grid = std::optional<Sizes>;

// Shape [B, T, H, W] of the map: the flow's own, or the grid's, which must divide it.
Shape map_shape(const char* op, const Tensor& flow, const Grid& grid) {
  const std::array<int64_t, 3> whole{flow.size(1), flow.size(3), flow.size(4)};
  if (!grid.has_value()) return {flow.size(0), whole[0], whole[1], whole[2]};
  check_value(grid->size() == 3, op, "grid must be (t, h, w), got ", sizes_text(*grid));
  constexpr std::array<const char*, 3> names{"T", "H", "W"};
  for (size_t axis = 0; axis < 3; ++axis) {
    const int64_t cells = (*grid)[axis];
    check_value(cells > 0 && whole[axis] > 0 && whole[axis] % cells == 0, op, "grid must divide ", names[axis], "=",
                whole[axis], " into equal blocks, got ", sizes_text(*grid));
  }
  return {flow.size(0), (*grid)[0], (*grid)[1], (*grid)[2]};
}

MotionMap arguments(const Tensor& source, const Shape& map) {
  MotionMap args{};
  args.images = flow_images(source);
  args.block_frames = args.images.frames / map[1];
  args.block_rows = args.images.height / map[2];
  args.block_columns = args.images.width / map[3];
  return args;
}

Tensor motion_map(const Tensor& flow, const Grid& grid) {
  constexpr const char* kOp = "motion_map";
  const Tensor source = checked_flow(kOp, flow);
  const Shape shape = map_shape(kOp, flow, grid);
  const Tensor map = empty(shape, flow);
  if (map.numel() == 0) return map;
  MotionMap args = arguments(source, shape);
  args.map = map.mutable_data_ptr();
  MOTIONOPS_DISPATCH(kOp, source, motion_map_forward_cpu(args, parallel), motion_map_forward_cuda(args, stream));
  return map;
}

Tensor motion_map_backward(const Tensor& grad_map, const Tensor& flow, const Grid& grid) {
  constexpr const char* kBackward = "motion_map_backward";
  const Tensor source = checked_flow(kBackward, flow);
  const Shape shape = map_shape(kBackward, flow, grid);
  check_shape(kBackward, "grad_map", grad_map, same_sizes(grad_map, shape), sizes_text(shape));
  check_same_dtype(kBackward, "grad_map", grad_map, "flow", flow);
  check_same_device(kBackward, "grad_map", grad_map, "flow", flow);
  const Tensor grad = dense(grad_map);
  const Tensor grad_flow = empty(flow.sizes(), flow);
  if (grad_flow.numel() == 0) return grad_flow;
  MotionMap args = arguments(source, shape);
  args.grad_map = grad.const_data_ptr();
  args.grad_flow = grad_flow.mutable_data_ptr();
  MOTIONOPS_DISPATCH(kBackward, source, motion_map_backward_cpu(args, parallel),
                     motion_map_backward_cuda(args, stream));
  return grad_flow;
}

MOTIONOPS_DEFINE("motion_map(Tensor flow, int[]? grid) -> Tensor", motion_map);
MOTIONOPS_DEFINE("motion_map_backward(Tensor grad_map, Tensor flow, int[]? grid) -> Tensor", motion_map_backward);

}  // namespace
}  // namespace motionops
