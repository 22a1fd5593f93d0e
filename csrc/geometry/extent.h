// Extents: where a view lies in its source video, and how its cells overlap those of another view. Host and device.
//
// An extent is [3, 2]: axes (t, y, x), columns (start, end). A view of n cells along an axis has its cell i between the
// edges i and i + 1, edge(i) = (start (n − i) + end i) / n: exact at both ends. start > end is a mirrored view, whose
// cells run backwards; what a cell covers is the same set of points either way. All in float64.
#pragma once

#include <cstdint>

#include "core/rounded_product.h"

#if defined(__CUDACC__) || defined(MOTIONOPS_EMULATED)
#include <cuda_runtime.h>
#define MOTIONOPS_EXTENT_FUNCTION __host__ __device__ inline
#else
#define MOTIONOPS_EXTENT_FUNCTION inline
#endif

namespace motionops {

inline constexpr int kExtentAxes = 3;

struct Grid {
  int64_t cells[kExtentAxes];  // t, y, x

  MOTIONOPS_EXTENT_FUNCTION int64_t count() const { return cells[0] * cells[1] * cells[2]; }
  // The place of cell `cell`, numbered in (t, y, x) order, along an axis.
  MOTIONOPS_EXTENT_FUNCTION int64_t along(int axis, int64_t cell) const {
    if (axis == 2) return cell % cells[2];
    if (axis == 1) return cell / cells[2] % cells[1];
    return cell / (cells[1] * cells[2]);
  }
};

struct Interval {
  double low;
  double high;
};

// Cell i of n along one axis of an extent; `axis` points at its (start, end). Fused, an edge that two views share would
// depend on which of them asks: mirrored cells that touch would overlap by 1e-17.
MOTIONOPS_EXTENT_FUNCTION Interval cell_interval(const double* axis, int64_t cells, int64_t i) {
  const double n = static_cast<double>(cells);
  const auto edge = [&](int64_t at) {
    return (rounded_product(axis[0], static_cast<double>(cells - at)) +
            rounded_product(axis[1], static_cast<double>(at))) /
           n;
  };
  const double first = edge(i), last = edge(i + 1);
  return first <= last ? Interval{first, last} : Interval{last, first};
}

// The share of a query cell that a key cell covers along one axis; NaN where either has no length.
MOTIONOPS_EXTENT_FUNCTION double overlap_ratio(const Interval& query, const Interval& key) {
  const double low = query.low > key.low ? query.low : key.low;
  const double high = query.high < key.high ? query.high : key.high;
  const double common = high > low ? high - low : 0.0;
  const double length = query.high - query.low;
  return key.high > key.low ? common / length : 0.0 / (key.high - key.low);
}

// Extents are [3, 2].
MOTIONOPS_EXTENT_FUNCTION double axis_overlap(const double* query_extent, const Grid& query_grid, int64_t i,
                                              const double* key_extent, const Grid& key_grid, int64_t j, int axis) {
  return overlap_ratio(cell_interval(query_extent + 2 * axis, query_grid.cells[axis], i),
                       cell_interval(key_extent + 2 * axis, key_grid.cells[axis], j));
}

}  // namespace motionops
