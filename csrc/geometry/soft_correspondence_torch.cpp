// soft_correspondence: schema, checks, dispatch.
#include "geometry/soft_correspondence.h"

#include "geometry/extent_binding.h"

namespace motionops {
namespace {

using at::Tensor;

constexpr const char* kOp = "soft_correspondence";

Grid grid_of(const char* argument, at::IntArrayRef cells) {
  TORCH_CHECK_VALUE(cells.size() == 3 && cells[0] >= 1 && cells[1] >= 1 && cells[2] >= 1, kOp, ": ", argument,
                    " must be (t, h, w), each at least 1, got ", cells);
  return {{cells[0], cells[1], cells[2]}};
}

Tensor soft_correspondence(const Tensor& query_extent,  // [B, 3, 2]
                           const Tensor& key_extent,    // [B, 3, 2]
                           at::IntArrayRef query_grid, at::IntArrayRef key_grid) {
  check_extent_type(kOp, "query_extent", query_extent);
  check_extent_type(kOp, "key_extent", key_extent);
  check_shape(kOp, "query_extent", query_extent,
              query_extent.dim() == 3 && query_extent.size(1) == 3 && query_extent.size(2) == 2, "[B, 3, 2]");
  check_shape(kOp, "key_extent", key_extent, key_extent.sizes() == query_extent.sizes(), "[B=", query_extent.size(0),
              ", 3, 2]");
  check_same_device(kOp, "key_extent", key_extent, "query_extent", query_extent);
  SoftCorrespondence args{};
  args.query_grid = grid_of("query_grid", query_grid);
  args.key_grid = grid_of("key_grid", key_grid);
  const Tensor query_values = query_extent.to(at::kDouble).contiguous();
  const Tensor key_values = key_extent.to(at::kDouble).contiguous();
  check_volume(kOp, "query_extent", query_values);
  check_volume(kOp, "key_extent", key_values);
  args.batch = query_extent.size(0);
  const Tensor result = at::empty({args.batch, args.query_grid.count(), args.key_grid.count()}, query_extent.options());
  args.query_extent = query_values.const_data_ptr<double>();
  args.key_extent = key_values.const_data_ptr<double>();
  args.wide = query_extent.scalar_type() == at::kDouble;
  args.result = result.mutable_data_ptr();
  MOTIONOPS_DISPATCH(kOp, query_extent, soft_correspondence_cpu(args, parallel),
                     soft_correspondence_cuda(args, stream));
  return result;
}

}  // namespace
}  // namespace motionops

TORCH_LIBRARY_FRAGMENT(MOTIONOPS_NAMESPACE, m) {
  motionops::define(m,
                    "soft_correspondence(Tensor query_extent, Tensor key_extent, int[] query_grid, int[] key_grid) -> "
                    "Tensor",
                    &motionops::soft_correspondence);
}
