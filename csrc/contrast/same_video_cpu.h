// Pairs of one video that do not count: the ids of a tile's rows against those of its columns.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "contrast/streaming_softmax_cpu.h"

namespace motionops {

class RowVideos {
 public:
  // `ids` of the rows that tiles will have; null where there are none, and then nothing may be struck out.
  RowVideos(const int64_t* ids, int64_t rows) : ids_(ids), seen_(ids == nullptr ? 0 : kSlots) {
    for (int64_t row = 0; ids != nullptr && row < rows; ++row) seen_[slot(ids[row])] = 1;
  }

  // Strikes out the first `columns` columns of `tile` where they are of their row's video; `column_ids` are those of all.
  template <typename T>
  void strike_out(const LogitTile<T>& tile, const int64_t* column_ids, int64_t columns) const {
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t id = column_ids[tile.column_begin + j];
      // Few columns meet their own video, so a table of seen ids spares most of the comparisons.
      if (!seen_[slot(id)]) continue;
      for (int64_t r = 0; r < tile.rows; ++r) {
        if (ids_[tile.row_begin + r] == id) tile.logits[j * tile.stride + r] = -std::numeric_limits<T>::infinity();
      }
    }
  }

 private:
  static constexpr int kSlotBits = 14;
  static constexpr size_t kSlots = size_t{1} << kSlotBits;
  // Multiplicative hashing by the golden ratio.
  static size_t slot(int64_t id) { return (static_cast<uint64_t>(id) * 0x9E3779B97F4A7C15ull) >> (64 - kSlotBits); }

  const int64_t* ids_;
  std::vector<uint8_t> seen_;
};

}  // namespace motionops
