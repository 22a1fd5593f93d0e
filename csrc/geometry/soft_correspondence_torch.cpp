// soft_correspondence: schema, checks, dispatch.
#include "geometry/soft_correspondence.h"

#include "geometry/extent_binding.h"

namespace motionops {
namespace {

constexpr const char* kOp = "soft_correspondence";

Grid grid_of(const char* argument, Sizes cells) {
  check_value(cells.size() == 3 && cells[0] >= 1 && cells[1] >= 1 && cells[2] >= 1, kOp, argument,
              " must be (t, h, w), each at least 1, got ", sizes_text(cells));
  return {{cells[0], cells[1], cells[2]}};
}

// Refuses grids whose result cannot be counted in bytes: products of cells would wrap.
void check_result_size(int64_t batch, const Grid& query, const Grid& key) {
  int64_t bytes = sizeof(double);
  bool fits = !__builtin_mul_overflow(bytes, batch < 1 ? 1 : batch, &bytes);
  for (const Grid* grid : {&query, &key}) {
    for (const int64_t cells : grid->cells) fits = fits && !__builtin_mul_overflow(bytes, cells, &bytes);
  }
  check_value(fits, kOp, "query_grid and key_grid must make a result of less than 2^63 bytes, got ",
              sizes_text(query.cells), " and ", sizes_text(key.cells), " for B=", batch);
}

Tensor soft_correspondence(const Tensor& query_extent,  // [B, 3, 2]
                           const Tensor& key_extent,    // [B, 3, 2]
                           Sizes query_grid, Sizes key_grid) {
  check_extent_type(kOp, "query_extent", query_extent);
  check_extent_type(kOp, "key_extent", key_extent);
  check_shape(kOp, "query_extent", query_extent,
              query_extent.dim() == 3 && query_extent.size(1) == 3 && query_extent.size(2) == 2, "[B, 3, 2]");
  check_shape(kOp, "key_extent", key_extent, same_sizes(key_extent, query_extent.sizes()), "[B=", query_extent.size(0),
              ", 3, 2]");
  check_same_device(kOp, "key_extent", key_extent, "query_extent", query_extent);
  SoftCorrespondence args{};
  args.query_grid = grid_of("query_grid", query_grid);
  args.key_grid = grid_of("key_grid", key_grid);
  check_result_size(query_extent.size(0), args.query_grid, args.key_grid);
  const Tensor query_values = dense_as(query_extent, ScalarType::Double);
  const Tensor key_values = dense_as(key_extent, ScalarType::Double);
  check_volume(kOp, "query_extent", query_values);
  check_volume(kOp, "key_extent", key_values);
  args.batch = query_extent.size(0);
  const Tensor result = empty(Shape{args.batch, args.query_grid.count(), args.key_grid.count()}, query_extent);
  args.query_extent = data_of<double>(query_values);
  args.key_extent = data_of<double>(key_values);
  args.wide = query_extent.scalar_type() == ScalarType::Double;
  args.result = result.mutable_data_ptr();
  MOTIONOPS_DISPATCH(kOp, query_extent, soft_correspondence_cpu(args, parallel),
                     soft_correspondence_cuda(args, stream));
  return result;
}

MOTIONOPS_DEFINE(
    "soft_correspondence(Tensor query_extent, Tensor key_extent, int[] query_grid, int[] key_grid) -> Tensor",
    soft_correspondence);

}  // namespace
}  // namespace motionops
