// Schema, checks and dispatch of augment_clips.
#include "views/augment_clips.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "core/torch_binding.h"

namespace motionops {
namespace {

constexpr const char* kOp = "augment_clips";
constexpr int64_t kTableColumns = sizeof(AugmentVideo) / sizeof(int64_t);
static_assert(kTableColumns == 7, "a table of videos is int64 [B, 7]");

AugmentVideo video_of(const Tensor& frames) {  // [..., T, H, W, 3]
  const int64_t time = frames.dim() - 4;
  return {static_cast<const uint8_t*>(frames.const_data_ptr()),
          frames.size(time + 1),
          frames.size(time + 2),
          frames.stride(time),
          frames.stride(time + 1),
          frames.stride(time + 2),
          frames.stride(time + 3)};
}

void check_frames(const Tensor& frames, int64_t rank, int64_t length, const Tensor& extents) {
  check_dtype(kOp, "frames", frames, ScalarType::Byte);
  const int64_t time = rank - 4;
  const bool right =
      frames.dim() == rank && frames.size(time + 3) == 3 && frames.size(time + 2) > 0 && frames.size(time + 1) > 0;
  check_shape(kOp, "frames", frames, right, rank == 5 ? "[B, T, H, W, 3]" : "[T, H, W, 3]");
  check_shape(kOp, "frames", frames, frames.size(time) == length, "of T=", length, " frames");
  // taps are 32-bit: three times the width must fit
  check_shape(kOp, "frames", frames,
              frames.size(time + 2) < (int64_t{1} << 29) && frames.size(time + 1) < (int64_t{1} << 29),
              "of less than 2^29 pixels a side");
  check_same_device(kOp, "frames", frames, "extents", extents);
}

// A parameter of the clips, contiguous and in the type that the launcher wants.
Tensor parameter(const char* argument, const OptionalTensor& value, const Shape& shape, ScalarType type,
                 const Tensor& extents) {
  check_value(value.has_value(), kOp, argument, " must be given together with jitter, got None");
  check_shape(kOp, argument, *value, same_sizes(*value, shape), sizes_text(shape));
  check_same_device(kOp, argument, *value, "extents", extents);
  return dense_as(*value, type);
}

// One row a video, where the kernel runs. The copy to a GPU is from pinned memory, on the current stream.
Tensor table_of(const std::vector<Tensor>& frames, const Tensor& like) {
  const bool on_gpu = like.is_cuda();
  const torch::stable::Device host(torch::headeronly::DeviceType::CPU);
  const Tensor table = torch::stable::empty(Shape{static_cast<int64_t>(frames.size()), kTableColumns}, ScalarType::Long,
                                            std::nullopt, host, on_gpu);
  auto* rows = static_cast<AugmentVideo*>(table.mutable_data_ptr());
  for (size_t i = 0; i < frames.size(); ++i) rows[i] = video_of(frames[i]);
  return on_gpu ? torch::stable::to(table, like.device(), /*non_blocking=*/true) : table;
}

Tensor augment_clips(const std::vector<Tensor>& frames, const Tensor& extents, int64_t height, int64_t width,
                     const OptionalTensor& jitter, const OptionalTensor& order, const OptionalTensor& grayscale,
                     const OptionalTensor& blur_sigma, const std::vector<double>& mean, const std::vector<double>& std,
                     bool difference, ScalarType dtype, int64_t blur_kernel) {
  check_floating(kOp, "extents", extents);
  const bool together = frames.size() == 1 && frames[0].dim() == 5;
  const int64_t batch = together ? frames[0].size(0) : static_cast<int64_t>(frames.size());
  check_shape(kOp, "extents", extents, same_sizes(extents, Shape{batch, 3, 2}), "[B=", batch, ", 3, 2]");
  const int64_t length = frames.empty() || frames[0].dim() < 4 ? 0 : frames[0].size(frames[0].dim() - 4);
  for (const Tensor& video : frames) check_frames(video, together ? 5 : 4, length, extents);
  const int64_t shorter = std::min(height, width), longer = std::max(height, width);
  check_value(shorter >= 1 && longer < (int64_t{1} << 15), kOp, "size must be in [1, 2^15), got ", height, " x ",
              width);
  check_value(blur_kernel >= 1 && blur_kernel % 2 == 1 && blur_kernel < 2 * shorter, kOp,
              "blur_kernel must be odd, >= 1 and < 2 * the shorter side = ", 2 * shorter, ", got ", blur_kernel);
  check_value(mean.size() == 3 && std.size() == 3, kOp, "mean and std must be 3 numbers, got ", mean.size(), " and ",
              std.size());
  check_floating(kOp, "dtype", dtype);

  const Tensor output = empty(Shape{batch, 3, length, height, width}, dtype, extents);
  if (output.numel() == 0) return output;
  const ScalarType real = accumulation_type(dtype);
  AugmentClips args{};
  args.dtype = dtype_of(dtype);
  Tensor table;
  if (together) {
    args.common = video_of(frames[0]);
    args.stride_b = frames[0].stride(0);
  } else if (!is_meta(extents)) {
    table = table_of(frames, extents);
    args.videos = static_cast<const AugmentVideo*>(table.const_data_ptr());
  }
  const Tensor places = dense_as(extents, real);
  args.extents = places.const_data_ptr();
  Tensor factors, steps, gray, sigma;
  if (jitter.has_value()) {
    factors = parameter("jitter", jitter, {batch, 4}, real, extents);
    steps = parameter("order", order, {batch, 4}, ScalarType::Long, extents);
    gray = parameter("grayscale", grayscale, {batch}, ScalarType::Bool, extents);
    sigma = parameter("blur_sigma", blur_sigma, {batch}, real, extents);
    args.jitter = factors.const_data_ptr();
    args.order = data_of<int64_t>(steps);
    args.grayscale = data_of<bool>(gray);
    args.blur_sigma = sigma.const_data_ptr();
  }
  args.output = output.mutable_data_ptr();
  args.batch = batch;
  args.frames = length;
  args.height = height;
  args.width = width;
  args.blur_kernel = blur_kernel;
  for (int c = 0; c < 3; ++c) {
    args.mean[c] = mean[c];
    args.scale[c] = 1 / std[c];
  }
  args.difference = difference;
  MOTIONOPS_DISPATCH(kOp, output, augment_clips_forward_cpu(args, parallel),
                     augment_clips_forward_cuda(
                         args, workspace(augment_clips_workspace_bytes(args), output).mutable_data_ptr(), stream));
  return output;
}

MOTIONOPS_DEFINE(
    "augment_clips(Tensor[] frames, Tensor extents, int height, int width, Tensor? jitter, Tensor? order, Tensor? "
    "grayscale, "
    "Tensor? blur_sigma, float[] mean, float[] std, bool difference, ScalarType dtype, int blur_kernel) -> Tensor",
    augment_clips);

}  // namespace
}  // namespace motionops
