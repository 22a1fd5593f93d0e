// Schema, checks and dispatch of motion_map.
#include "flow/motion_map.h"

#include <array>

#include "flow/flow_binding.h"

namespace motionops {
namespace {

constexpr const char* kOp = "motion_map";

// Sizes (T, H, W) of the map: the flow's own, or the grid's, which must divide them.
std::array<int64_t, 3> map_sizes(const at::Tensor& flow, const at::OptionalIntArrayRef& grid) {
  const std::array<int64_t, 3> whole{flow.size(1), flow.size(3), flow.size(4)};
  if (!grid.has_value()) return whole;
  TORCH_CHECK_VALUE(grid->size() == 3, kOp, ": grid must be (t, h, w), got ", *grid);
  constexpr std::array<const char*, 3> names{"T", "H", "W"};
  for (size_t axis = 0; axis < 3; ++axis) {
    const int64_t cells = (*grid)[axis];
    TORCH_CHECK_VALUE(cells > 0 && whole[axis] > 0 && whole[axis] % cells == 0, kOp, ": grid must divide ", names[axis],
                      "=", whole[axis], " into equal blocks, got ", *grid);
  }
  return {(*grid)[0], (*grid)[1], (*grid)[2]};
}

MotionMap arguments(const at::Tensor& source, const std::array<int64_t, 3>& sizes) {
  MotionMap args{};
  args.images = flow_images(source);
  args.block_frames = args.images.frames / sizes[0];
  args.block_rows = args.images.height / sizes[1];
  args.block_columns = args.images.width / sizes[2];
  return args;
}

at::Tensor motion_map(const at::Tensor& flow, at::OptionalIntArrayRef grid) {
  const at::Tensor source = checked_flow(kOp, flow);
  const auto sizes = map_sizes(flow, grid);
  const at::Tensor map = at::empty({flow.size(0), sizes[0], sizes[1], sizes[2]}, flow.options());
  if (map.numel() == 0) return map;
  MotionMap args = arguments(source, sizes);
  args.map = map.mutable_data_ptr();
  MOTIONOPS_DISPATCH(kOp, source, motion_map_forward_cpu(args, parallel), motion_map_forward_cuda(args, stream));
  return map;
}

at::Tensor motion_map_backward(const at::Tensor& grad_map, const at::Tensor& flow, at::OptionalIntArrayRef grid) {
  const at::Tensor source = checked_flow(kOp, flow);
  const auto sizes = map_sizes(flow, grid);
  check_shape(kOp, "grad_map", grad_map,
              grad_map.sizes() == at::IntArrayRef({flow.size(0), sizes[0], sizes[1], sizes[2]}), "[", flow.size(0),
              ", ", sizes[0], ", ", sizes[1], ", ", sizes[2], "]");
  check_same_dtype(kOp, "grad_map", grad_map, "flow", flow);
  check_same_device(kOp, "grad_map", grad_map, "flow", flow);
  const at::Tensor grad = grad_map.contiguous();
  const at::Tensor grad_flow = at::empty(flow.sizes(), flow.options());
  if (grad_flow.numel() == 0) return grad_flow;
  MotionMap args = arguments(source, sizes);
  args.grad_map = grad.const_data_ptr();
  args.grad_flow = grad_flow.mutable_data_ptr();
  MOTIONOPS_DISPATCH(kOp, source, motion_map_backward_cpu(args, parallel), motion_map_backward_cuda(args, stream));
  return grad_flow;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(MOTIONOPS_NAMESPACE, m) {
  define(m, "motion_map(Tensor flow, int[]? grid) -> Tensor", &motion_map);
  define(m, "motion_map_backward(Tensor grad_map, Tensor flow, int[]? grid) -> Tensor", &motion_map_backward);
}

}  // namespace motionops
