// soft_correspondence on the CPU: a row at a time, from the overlaps of its cell with the key's cells along each axis.
#include "geometry/soft_correspondence.h"

#include <vector>

namespace motionops {
namespace {

template <typename T>
void run(const SoftCorrespondence& args, const Parallel& parallel) {
  const int64_t rows = args.query_grid.count();
  const int64_t columns = args.key_grid.count();
  if (rows == 0 || columns == 0) return;
  parallel.run(0, args.batch * rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<double> overlap[kExtentAxes];
    for (int axis = 0; axis < kExtentAxes; ++axis) overlap[axis].resize(args.key_grid.cells[axis]);
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / rows;
      for (int axis = 0; axis < kExtentAxes; ++axis) {
        const int64_t i = args.query_grid.along(axis, row % rows);
        for (int64_t j = 0; j < args.key_grid.cells[axis]; ++j) {
          overlap[axis][j] = axis_overlap(args.query_extent + b * 6, args.query_grid, i, args.key_extent + b * 6,
                                          args.key_grid, j, axis);
        }
      }
      T* to = static_cast<T*>(args.result) + row * columns;
      for (const double t : overlap[0]) {
        for (const double y : overlap[1]) {
          for (const double x : overlap[2]) *to++ = static_cast<T>(t * y * x);
        }
      }
    }
  });
}

}  // namespace

void soft_correspondence_cpu(const SoftCorrespondence& args, const Parallel& parallel) {
  if (args.wide) {
    run<double>(args, parallel);
  } else {
    run<float>(args, parallel);
  }
}

}  // namespace motionops
