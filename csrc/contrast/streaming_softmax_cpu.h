// The streaming softmax on the CPU: softmax statistics of rows (queries) against columns (keys) whose logits are never
// stored. The contrastive ops are policies over these two passes.
//
// Forward pass, for every row i over the columns n that count:
//   logit_in = scale · row_i · column_n      LSE_i = log Σ_n e^{logit_in}      E_i = Σ_n e^{logit_in − LSE_i} column_n
// A block of columns is multiplied, folded into the running maximum and sum of each row, added to the unnormalised
// expected column (rescaled where the maximum moved), and dropped. A row may have an own column beside the shared ones,
// which is also the threshold of its rank.
//
// Transposed pass, where columns need gradients: its rows are the keys, its columns the queries with their saved LSE:
//   gradient_n += scale · Σ_i weight_i e^{logit_in − LSE_i} query_i
// Where the forward pass is asked for the expected rows, it forms that sum itself as long as the probabilities of a panel
// fit into a few megabytes a thread: those of some panels are kept and meet the rows once more. That is three products
// where the two passes take four, and one exponential a pair instead of two.
//
// Parallelism: work items are (panel of rows) × (range of columns); where rows are few there are several ranges, and those
// of one panel are merged at the end.
// Numerics: T (float, or double for float64 features) throughout; products in the order of D, so that equal columns give
// equal logits. Memory: about 32 + 0.5 D kB for each of at most panels + 4 · threads items, and for the expected rows up to
// 5 MiB of probabilities a thread; nothing else depends on the columns.
#pragma once

#include <cstdint>
#include <span>

#include "core/dtype.h"
#include "core/parallel.h"

namespace motionops {

// Rows of features in memory, [count, D] of `dtype`; row n is at index[n] where an index is given.
struct FeatureRows {
  const void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
  int64_t count = 0;
  const int64_t* index = nullptr;
};

// A block of logits as the passes hold it: logit of (row_begin + r, column_begin + j) is at logits[j * stride + r].
template <typename T>
struct LogitTile {
  T* logits;
  int64_t stride;
  int64_t row_begin;
  int64_t rows;
  int64_t column_begin;
  int64_t columns;
  bool transposed;  // of the transposed pass: rows are the keys
};

// What an op adds: which columns do not count. Called once for every block, from any thread.
template <typename T>
class ColumnPolicy {
 public:
  virtual ~ColumnPolicy() = default;
  // Sets the logits of the pairs that do not count to −infinity.
  virtual void exclude(const LogitTile<T>& tile) const = 0;
};

template <typename T>
struct StreamingSoftmax {
  FeatureRows rows;                      // [R, D]
  std::span<const FeatureRows> columns;  // segments, numbered through
  FeatureRows own;                       // [R, D] own column of every row; data null: none
  int64_t dim = 0;                       // D
  T scale = 1;
  const ColumnPolicy<T>* policy = nullptr;  // null: every column counts
  T* own_logit = nullptr;                   // [R], only with `own`
  // LSE = maximum + log_sum: in two parts, since the difference of two of them keeps its digits so.
  T* maximum = nullptr;     // [R]
  T* log_sum = nullptr;     // [R]
  int32_t* rank = nullptr;  // [R] counted columns above the own logit, only with `own`; or null
  T* expected = nullptr;    // [R, D] E, or null
  // Σ_i row_weight_i e^{logit_in − LSE_i} row_i for every column n, which are one segment without index; null: not wanted.
  T* expected_row = nullptr;      // [columns, D]
  const T* row_weight = nullptr;  // [R], only with `expected_row`; null: 1
};

template <typename T>
struct StreamingGradient {
  FeatureRows rows;     // [M, D] the keys; through their index, where they have one
  FeatureRows columns;  // [R, D] the queries
  int64_t dim = 0;      // D
  T scale = 1;
  const ColumnPolicy<T>* policy = nullptr;  // null: every pair counts
  const T* log_sum_exp = nullptr;           // [R]
  const T* weight = nullptr;                // [R]
  T sign = 1;                               // the gradient is added with this sign
  T* gradient = nullptr;                    // added to, at the rows' places in memory
};

// Row `row` of `rows` as T: where it lies, or widened into `scratch` [D].
template <typename T>
const T* feature_row(const FeatureRows& rows, int64_t row, int64_t dim, T* scratch);

template <typename T>
void streaming_softmax(const StreamingSoftmax<T>& problem, const Parallel& parallel);
template <typename T>
void streaming_gradient(const StreamingGradient<T>& problem, const Parallel& parallel);

}  // namespace motionops
