// What pairwise_infonce does between the products of panels on the CPU: see pairwise_panels.h. A row is taken whole by one
// thread: it is read three times, for its maximum, its sum and its weights, and stays in the first caches meanwhile.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "contrast/pairwise_panels.h"
#include "core/simd_target.h"

namespace motionops {
namespace {

constexpr int64_t kScoresPerTask = 1 << 14;  // less does not pay for waking a thread

#define MOTIONOPS_SIMD_FILE "contrast/pairwise_panels_cpu.inl"
#include "core/simd_targets.inl"

}  // namespace

void pairwise_panel_cpu(const PairwisePanel& panel, const Parallel& parallel) {
  parallel.run(0, panel.rows, kScoresPerTask / panel.key_rows, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) MOTIONOPS_SIMD_CALL(panel_row(panel, row));
  });
}

}  // namespace motionops
