// Schema, checks and dispatch of augment_clips.
#include "views/augment_clips.h"

#include <ATen/ops/empty.h>

#include <optional>
#include <vector>

#include "core/torch_binding.h"

namespace motionops {
namespace {

constexpr const char* kOp = "augment_clips";
constexpr int64_t kTableColumns = sizeof(AugmentVideo) / sizeof(int64_t);
static_assert(kTableColumns == 7, "a table of videos is int64 [B, 7]");

AugmentVideo video_of(const at::Tensor& frames) {  // [..., T, H, W, 3]
  const int64_t time = frames.dim() - 4;
  return {static_cast<const uint8_t*>(frames.const_data_ptr()),
          frames.size(time + 1),
          frames.size(time + 2),
          frames.stride(time),
          frames.stride(time + 1),
          frames.stride(time + 2),
          frames.stride(time + 3)};
}

void check_frames(const at::Tensor& frames, int64_t rank, int64_t length, const at::Tensor& extents) {
  check_dtype(kOp, "frames", frames, at::kByte);
  const bool right = frames.dim() == rank && frames.size(-1) == 3 && frames.size(-2) > 0 && frames.size(-3) > 0;
  check_shape(kOp, "frames", frames, right, rank == 5 ? "[B, T, H, W, 3]" : "[T, H, W, 3]");
  check_shape(kOp, "frames", frames, frames.size(-4) == length, "of T=", length, " frames");
  // taps are 32-bit: three times the width must fit
  check_shape(kOp, "frames", frames, frames.size(-2) < (int64_t{1} << 29) && frames.size(-3) < (int64_t{1} << 29),
              "of less than 2^29 pixels a side");
  check_same_device(kOp, "frames", frames, "extents", extents);
}

// A parameter of the clips, contiguous and in the type that the launcher wants.
at::Tensor parameter(const char* argument, const std::optional<at::Tensor>& value, at::IntArrayRef shape,
                     at::ScalarType type, const at::Tensor& extents) {
  TORCH_CHECK_VALUE(value.has_value(), kOp, ": ", argument, " must be given together with jitter, got None");
  check_shape(kOp, argument, *value, value->sizes() == shape, shape);
  check_same_device(kOp, argument, *value, "extents", extents);
  return value->to(type).contiguous();
}

// One row a video, where the kernel runs. The copy to a GPU is from pinned memory, on the current stream.
at::Tensor table_of(at::TensorList frames, const at::Tensor& like) {
  const bool on_gpu = like.is_cuda();
  const at::Tensor table = at::empty({static_cast<int64_t>(frames.size()), kTableColumns},
                                     at::TensorOptions().dtype(at::kLong).pinned_memory(on_gpu));
  auto* rows = static_cast<AugmentVideo*>(table.mutable_data_ptr());
  for (size_t i = 0; i < frames.size(); ++i) rows[i] = video_of(frames[i]);
  return on_gpu ? table.to(like.device(), /*non_blocking=*/true) : table;
}

at::Tensor augment_clips(at::TensorList frames, const at::Tensor& extents, int64_t size,
                         const std::optional<at::Tensor>& jitter, const std::optional<at::Tensor>& order,
                         const std::optional<at::Tensor>& grayscale, const std::optional<at::Tensor>& blur_sigma,
                         at::ArrayRef<double> mean, at::ArrayRef<double> std, bool difference, at::ScalarType dtype,
                         int64_t blur_kernel) {
  check_floating(kOp, "extents", extents);
  const bool together = frames.size() == 1 && frames[0].dim() == 5;
  const int64_t batch = together ? frames[0].size(0) : static_cast<int64_t>(frames.size());
  check_shape(kOp, "extents", extents, extents.sizes() == at::IntArrayRef({batch, 3, 2}), "[B=", batch, ", 3, 2]");
  const int64_t length = frames.empty() || frames[0].dim() < 4 ? 0 : frames[0].size(-4);
  for (const at::Tensor& video : frames) check_frames(video, together ? 5 : 4, length, extents);
  TORCH_CHECK_VALUE(size >= 1 && size < (int64_t{1} << 15), kOp, ": size must be in [1, 2^15), got ", size);
  TORCH_CHECK_VALUE(blur_kernel >= 1 && blur_kernel % 2 == 1 && blur_kernel < 2 * size, kOp,
                    ": blur_kernel must be odd, >= 1 and < 2 * size = ", 2 * size, ", got ", blur_kernel);
  TORCH_CHECK_VALUE(mean.size() == 3 && std.size() == 3, kOp, ": mean and std must be 3 numbers, got ", mean.size(),
                    " and ", std.size());
  TORCH_CHECK_TYPE(dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16, kOp,
                   ": dtype must be float32, float64, bfloat16 or float16, got ", dtype_name(dtype));

  const at::Tensor output = at::empty({batch, 3, length, size, size}, extents.options().dtype(dtype));
  if (output.numel() == 0) return output;
  const at::ScalarType real = accumulation_type(output);
  AugmentClips args{};
  args.dtype = dtype_of(output);
  at::Tensor table;
  if (together) {
    args.common = video_of(frames[0]);
    args.stride_b = frames[0].stride(0);
  } else {
    table = table_of(frames, extents);
    args.videos = static_cast<const AugmentVideo*>(table.const_data_ptr());
  }
  const at::Tensor places = extents.to(real).contiguous();
  args.extents = places.const_data_ptr();
  at::Tensor factors, steps, gray, sigma;
  if (jitter.has_value()) {
    factors = parameter("jitter", jitter, {batch, 4}, real, extents);
    steps = parameter("order", order, {batch, 4}, at::kLong, extents);
    gray = parameter("grayscale", grayscale, {batch}, at::kBool, extents);
    sigma = parameter("blur_sigma", blur_sigma, {batch}, real, extents);
    args.jitter = factors.const_data_ptr();
    args.order = steps.const_data_ptr<int64_t>();
    args.grayscale = gray.const_data_ptr<bool>();
    args.blur_sigma = sigma.const_data_ptr();
  }
  args.output = output.mutable_data_ptr();
  args.batch = batch;
  args.frames = length;
  args.size = size;
  args.blur_kernel = blur_kernel;
  for (int c = 0; c < 3; ++c) {
    args.mean[c] = mean[c];
    args.scale[c] = 1 / std[c];
  }
  args.difference = difference;
#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
  [[maybe_unused]] const auto scratch = [&] { return workspace(augment_clips_workspace_bytes(args), output); };
#endif
  MOTIONOPS_DISPATCH(kOp, output, augment_clips_forward_cpu(args, parallel),
                     augment_clips_forward_cuda(args, scratch().mutable_data_ptr(), stream));
  return output;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(MOTIONOPS_NAMESPACE, m) {
  define(m,
         "augment_clips(Tensor[] frames, Tensor extents, int size, Tensor? jitter, Tensor? order, Tensor? grayscale, "
         "Tensor? blur_sigma, float[] mean, float[] std, bool difference, ScalarType dtype, int blur_kernel) -> Tensor",
         &augment_clips);
}

}  // namespace motionops
