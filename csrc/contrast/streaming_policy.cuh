// What the streaming softmax asks of an operator: which columns count for which rows, and with what weight.
//
// A policy is a struct passed by value. It has
//   Row, row(r)    what it wants to know of row number r
//   Block, block(first, last)     of the rows first .. last, the ends of a row block, in ascending order
// and either coefficients or, where it has none, a softmax. What it leaves out it does not want:
//   Column, columns(), described_columns()     what it wants to know of a column, 4 to 16 bytes; the array, or null; its
//                  length. `info`, which travels with the tile.
// Softmax: weights are e^(logit - maximum)
//   kOwnKey        each row has a key of its own (stream.own_keys), which is no column: its product is found first, by
//                  the same instructions as every other, and columns above it are counted
//   counts(row, column, info), masks(block, begin, end)     does the column take part; may some of these not? `info` is
//                  there where columns are
//   withholds(row, column), withholds(block, begin, end)     columns that count, but that the merge adds to `expected`
//                  itself; and whether there may be some among these
//   local(), range(block)     where it says so, a row block needs only these columns, and one worker takes them all
// Coefficients: weights in [-1, 1], and only `expected` is left behind: the transposed pass, where log-sum-exps are known
//   coefficient(row, column, info, logit)
//   coefficient(info, logit), alike(block, begin, end)     the same; whether it is for all these rows and columns
#pragma once

#include <cstdint>
#include <type_traits>

namespace motionops {

struct ColumnRange {
  int64_t begin, end;
};

namespace streaming {

template <typename Policy>
concept HasColumns = requires(const Policy& policy) { policy.columns(); };

template <typename Policy>
struct ColumnOf : std::type_identity<int32_t> {};
template <HasColumns Policy>
struct ColumnOf<Policy> : std::type_identity<typename Policy::Column> {};

template <typename Policy>
constexpr bool has_own_keys() {
  if constexpr (requires { Policy::kOwnKey; }) return Policy::kOwnKey;
  return false;
}
template <typename Policy>
concept HasOwnKeys = has_own_keys<Policy>();

template <typename Policy>
concept HasRanges = requires(const Policy& policy) { policy.local(); };

template <typename Policy>
concept HasMasks = requires(const Policy& policy, const typename Policy::Block& block) { policy.masks(block, 0, 0); };

template <typename Policy>
concept HasCoefficients =
    requires(const Policy& policy, const typename Policy::Row& row, const typename ColumnOf<Policy>::type& column) {
      policy.coefficient(row, 0, column, 0.0f);
    };

}  // namespace streaming

}  // namespace motionops
