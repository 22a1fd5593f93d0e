// Schema, checks and dispatch of frame_difference.
#include "flow/frame_difference.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

#include "core/torch_binding.h"

namespace motionops {
namespace {

constexpr int64_t kTime = 2;

// A clip as [outer, T, inner] in the order of memory.
struct Layout {
  int64_t outer = 1, frames = 1, inner = 1;
  int64_t outer_stride = 0, frame_stride = 0;
};

// The layout of `input` when its axes are taken in the order of `dense`, a dense tensor of the same shape; nothing where
// the axes beside time do not run together.
std::optional<Layout> layout_in_order_of(const Tensor& dense, const Tensor& input) {
  std::vector<int64_t> axes;
  for (int64_t axis = 0; axis < dense.dim(); ++axis) {
    if (axis != kTime && dense.size(axis) != 1) axes.push_back(axis);
  }
  std::sort(axes.begin(), axes.end(), [&](int64_t a, int64_t b) { return dense.stride(a) < dense.stride(b); });
  Layout layout;
  layout.frames = dense.size(kTime);
  layout.frame_stride = input.stride(kTime);
  for (const int64_t axis : axes) {
    const int64_t size = dense.size(axis), stride = input.stride(axis);
    if (layout.frames == 1 || dense.stride(axis) < dense.stride(kTime)) {
      if (stride != layout.inner) return std::nullopt;
      layout.inner *= size;
    } else {
      if (layout.outer == 1) layout.outer_stride = stride;
      if (stride != layout.outer_stride * layout.outer) return std::nullopt;
      layout.outer *= size;
    }
  }
  return layout;
}

bool is_wrap(const char* op, std::string_view first) {
  check_value(first == "wrap" || first == "repeat", op, "first must be \"wrap\" or \"repeat\", got \"", first, "\"");
  return first == "wrap";
}

template <bool kForward>
Tensor run(const char* op, const char* argument, const Tensor& input, std::string_view first) {
  check_floating(op, argument, input);
  check_shape(op, argument, input, input.dim() == 5, "[B, C, T, H, W]");
  const bool wrap = is_wrap(op, first);
  const Tensor output = torch::stable::empty_like(input);  // dense, axes in the order of the input's
  if (output.numel() == 0) return output;
  Tensor source = input;
  std::optional<Layout> layout = layout_in_order_of(output, source);
  if (!layout) {
    source = torch::stable::empty_like(input);
    torch::stable::copy_(source, input);
    layout = layout_in_order_of(output, source);
  }
  const FrameDifference args{dtype_of(source),     source.const_data_ptr(), output.mutable_data_ptr(),
                             layout->outer,        layout->frames,          layout->inner,
                             layout->outer_stride, layout->frame_stride,    wrap};
  if constexpr (kForward) {
    MOTIONOPS_DISPATCH(op, source, frame_difference_forward_cpu(args, parallel),
                       frame_difference_forward_cuda(args, stream));
  } else {
    MOTIONOPS_DISPATCH(op, source, frame_difference_backward_cpu(args, parallel),
                       frame_difference_backward_cuda(args, stream));
  }
  return output;
}

Tensor frame_difference(const Tensor& clip, std::string_view first) {
  return run<true>("frame_difference", "clip", clip, first);
}

Tensor frame_difference_backward(const Tensor& grad_difference, std::string_view first) {
  return run<false>("frame_difference_backward", "grad_difference", grad_difference, first);
}

MOTIONOPS_DEFINE("frame_difference(Tensor clip, str first) -> Tensor", frame_difference);
MOTIONOPS_DEFINE("frame_difference_backward(Tensor grad_difference, str first) -> Tensor", frame_difference_backward);

}  // namespace
}  // namespace motionops
