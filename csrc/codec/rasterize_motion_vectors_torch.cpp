// rasterize_motion_vectors: schema, checks, dispatch.
#include "codec/rasterize_motion_vectors.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/searchsorted.h>

#include <limits>

#include "core/torch_binding.h"

namespace motionops {
namespace {

using at::Tensor;

constexpr const char* kOp = "rasterize_motion_vectors";

// Refuses rows that are no vectors; on a GPU that would wait for the device, so there they do not count. Returns whether
// the rows are sorted by frame.
bool check_rows(const Tensor& vectors) {
  const int32_t* row = vectors.const_data_ptr<int32_t>();
  bool sorted = true;
  for (int64_t i = 0; i < vectors.size(0); ++i, row += kMotionVectorColumns) {
    TORCH_CHECK_VALUE(row[1] != 0 && row[2] >= 1 && row[3] >= 1 && row[8] >= 1, kOp, ": vectors must have a source",
                      " other than 0 and w, h and motion_scale of at least 1, got source ", row[1], ", w ", row[2],
                      ", h ", row[3], ", motion_scale ", row[8], " in row ", i);
    sorted = sorted && (i == 0 || row[0] >= row[-kMotionVectorColumns]);
  }
  return sorted;
}

Tensor rasterize_motion_vectors(const Tensor& vectors,  // [N, 9]
                                int64_t frames, int64_t height, int64_t width, int64_t cell) {
  check_dtype(kOp, "vectors", vectors, at::kInt);
  check_shape(kOp, "vectors", vectors, vectors.dim() == 2 && vectors.size(1) == kMotionVectorColumns,
              "[N, 9] (frame, source, w, h, dst_x, dst_y, motion_x, motion_y, motion_scale)");
  static constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  const auto check_size = [](const char* argument, int64_t value, int64_t least) {
    TORCH_CHECK_VALUE(value >= least && value <= kMost, kOp, ": ", argument, " must be from ", least, " to ", kMost,
                      ", got ", value);
  };
  check_size("frames", frames, 0);
  check_size("height", height, 0);
  check_size("width", width, 0);
  check_size("cell", cell, 1);
  Tensor rows = vectors.contiguous();
  const bool sorted = rows.is_cpu() && check_rows(rows);
  if (!sorted) rows = rows.index_select(0, std::get<1>(rows.select(1, 0).sort(std::optional<bool>(true), 0, false)));
  const Tensor starts = at::searchsorted(rows.select(1, 0).contiguous(),
                                         at::arange(frames + 1, vectors.options()));  // int64 [frames + 1]
  RasterizeMotionVectors args{
      rows.const_data_ptr<int32_t>(), starts.const_data_ptr<int64_t>(), frames, height, width, cell, nullptr};
  const Tensor result =
      at::empty({frames, 2, args.cell_rows(), args.cell_columns()}, vectors.options().dtype(at::kFloat));
  args.result = result.mutable_data_ptr<float>();
  MOTIONOPS_DISPATCH(kOp, vectors, rasterize_motion_vectors_cpu(args, parallel),
                     rasterize_motion_vectors_cuda(args, stream));
  return result;
}

}  // namespace
}  // namespace motionops

TORCH_LIBRARY_FRAGMENT(MOTIONOPS_NAMESPACE, m) {
  motionops::define(m,
                    "rasterize_motion_vectors(Tensor vectors, int frames, int height, int width, int cell) "
                    "-> Tensor",
                    &motionops::rasterize_motion_vectors);
}
