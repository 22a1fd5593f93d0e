// How the CPU stencils share images out: strips of rows, long enough that the rows at their seams do not count.
#pragma once

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "flow/flow_images.h"

namespace motionops {

// Calls body(image, first_row, last_row, scratch) for strips that cover all rows of all images; `scratch` holds
// `scratch_size` values and belongs to one call at a time.
template <typename Value, typename Body>
void for_row_strips(const FlowImages& images, int64_t scratch_size, const Parallel& parallel, const Body& body) {
  constexpr int64_t kStripRows = 64;
  constexpr int64_t kPixelsPerTask = 16384;  // less does not pay for waking a thread
  if (image_count(images) == 0 || images.height == 0 || images.width == 0) return;
  // Whole images where there are many: a strip pays for the rows around it.
  const bool many = image_count(images) >= 4 * parallel.threads();
  const int64_t rows = many ? images.height : std::min(images.height, kStripRows);
  const int64_t strips = (images.height + rows - 1) / rows;
  const int64_t grain = std::max<int64_t>(1, kPixelsPerTask / (rows * images.width));
  parallel.run(0, image_count(images) * strips, grain, [&](int64_t begin, int64_t end) {
    std::vector<Value> scratch(scratch_size);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first = item % strips * rows;
      body(item / strips, first, std::min(first + rows, images.height), scratch.data());
    }
  });
}

}  // namespace motionops
