// Parallel over images and strips of their rows. The magnitudes of three rows wait in the first-level cache, so every flow
// value is read from memory once (the rows at the seam of two strips twice).
#include "flow/flow_edges.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/simd_target.h"
#include "flow/row_strips.h"

namespace motionops {
namespace {

#define MOTIONOPS_SIMD_FILE "flow/flow_edges_cpu.inl"
#include "core/simd_targets.inl"

}  // namespace

void flow_edges_forward_cpu(const FlowEdges& args, const Parallel& parallel) {
  for_dtype(args.images.dtype, [&]<typename T>() {
    for_row_strips<Wide<T>>(args.images, 3 * (args.images.width + 2), parallel,
                            [&](int64_t n, int64_t first, int64_t last, Wide<T>* scratch) {
                              MOTIONOPS_SIMD_CALL(edge_rows<T>(args, n, first, last, scratch));
                            });
  });
}

void flow_edges_backward_cpu(const FlowEdges& args, const Parallel& parallel) {
  for_dtype(args.images.dtype, [&]<typename T>() {
    for_row_strips<Wide<T>>(args.images, 11 * (args.images.width + 2), parallel,
                            [&](int64_t n, int64_t first, int64_t last, Wide<T>* scratch) {
                              MOTIONOPS_SIMD_CALL(edge_rows_backward<T>(args, n, first, last, scratch));
                            });
  });
}

}  // namespace motionops
