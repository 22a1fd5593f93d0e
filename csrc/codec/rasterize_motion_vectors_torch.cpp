// rasterize_motion_vectors: schema, checks, dispatch.
#include "codec/rasterize_motion_vectors.h"

#include <array>
#include <limits>

#include "core/torch_binding.h"

namespace motionops {
namespace {

constexpr const char* kOp = "rasterize_motion_vectors";

// Refuses rows that are no vectors; on a GPU that would wait for the device, so there they do not count. Returns whether
// the rows are sorted by frame.
bool check_rows(const Tensor& vectors) {
  const auto* row = data_of<int32_t>(vectors);
  bool sorted = true;
  for (int64_t i = 0, count = vectors.size(0); i < count; ++i, row += kMotionVectorColumns) {
    check_value(row[1] != 0 && row[2] >= 1 && row[3] >= 1 && row[8] >= 1, kOp,
                "vectors must have a source other than 0 and w, h and motion_scale of at least 1, got source ", row[1],
                ", w ", row[2], ", h ", row[3], ", motion_scale ", row[8], " in row ", i);
    sorted = sorted && (i == 0 || row[0] >= row[-kMotionVectorColumns]);
  }
  return sorted;
}

// The rows in the order of their frames, those of one frame as they were.
[[maybe_unused]] Tensor sorted_by_frame(const Tensor& rows) {
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  const Tensor frames = torch::stable::select(rows, 1, 0);
  std::array<StableIValue, 4> stack{from(frames), from(std::optional<bool>(true)), from(int64_t{0}), from(false)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  const auto values = to<Tensor>(stack[0]), order = to<Tensor>(stack[1]);
  std::array<StableIValue, 3> selection{from(rows), from(int64_t{0}), from(order)};
  STABLE_TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::index_select", "", selection.data(), TORCH_ABI_VERSION));
  return to<Tensor>(selection[0]);
}

Tensor rasterize_motion_vectors(const Tensor& vectors,  // [N, 9]
                                int64_t frames, int64_t height, int64_t width, int64_t cell) {
  check_dtype(kOp, "vectors", vectors, ScalarType::Int);
  check_shape(kOp, "vectors", vectors, vectors.dim() == 2 && vectors.size(1) == kMotionVectorColumns,
              "[N, 9] (frame, source, w, h, dst_x, dst_y, motion_x, motion_y, motion_scale)");
  static constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  const auto check_size = [](const char* argument, int64_t value, int64_t least) {
    check_value(value >= least && value <= kMost, kOp, argument, " must be from ", least, " to ", kMost, ", got ",
                value);
  };
  check_size("frames", frames, 0);
  check_size("height", height, 0);
  check_size("width", width, 0);
  check_size("cell", cell, 1);
  RasterizeMotionVectors args{nullptr, vectors.size(0), frames, height, width, cell, nullptr};
  const Tensor result = empty(Shape{frames, 2, args.cell_rows(), args.cell_columns()}, ScalarType::Float, vectors);
  if (is_meta(vectors)) return result;
  Tensor rows = dense(vectors);
  [[maybe_unused]] const bool sorted = !rows.is_cpu() || check_rows(rows);
  args.rows = data_of<int32_t>(rows);
  args.result = static_cast<float*>(result.mutable_data_ptr());
  [[maybe_unused]] const auto run_on_cpu = [&](const Parallel& parallel) {
    if (!sorted) rows = sorted_by_frame(rows);
    args.rows = data_of<int32_t>(rows);
    rasterize_motion_vectors_cpu(args, parallel);
  };
  MOTIONOPS_DISPATCH(kOp, vectors, run_on_cpu(parallel),
                     rasterize_motion_vectors_cuda(
                         args, workspace(rasterize_motion_vectors_workspace_bytes(args), vectors).data_ptr(), stream));
  return result;
}

MOTIONOPS_DEFINE("rasterize_motion_vectors(Tensor vectors, int frames, int height, int width, int cell) -> Tensor",
                 rasterize_motion_vectors);

}  // namespace
}  // namespace motionops
