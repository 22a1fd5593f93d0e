// The kernels of the streaming softmax, compiled once for each SIMD target: included by streaming_softmax_cpu.cpp through
// core/simd_targets.inl. No include guard, no includes.
//
// Everything is held transposed: a panel of rows is packed as [D][rows], so that a vector register holds one element of
// several rows, and both products are the same micro-kernel with broadcast column elements:
//   logits   [column][rows] = Σ_d packed[d][rows] · column[d]
//   expected [d][rows]     += Σ_column probability[column][rows] · column[d]
// and the running maximum, sum, rank and the rescaling are plain vector code with no reduction across lanes.

#include "core/vector_math.inl"

// One register tile of c[j][r] (+)= scale · Σ_k a[k][r] · b(k, j), with V vectors of r and J values of j.
// b(k, j) is b[j * b_stride + k] where the sum runs along the columns' features, b[k * b_stride + j] where it runs over columns.
template <typename T, int V, int J, bool kAlongFeatures, bool kAccumulate>
inline __attribute__((always_inline)) void multiply_tile(const T* a, int64_t a_stride, const T* b, int64_t b_stride,
                                                         int64_t depth, T scale, T* c, int64_t c_stride) {
  using Vector = typename Simd<T>::Vector;
  constexpr int64_t kLanes = Simd<T>::kLanes;
  Vector sum[J][V] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Vector left[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) left[v] = load(a + k * a_stride + v * kLanes);
#pragma GCC unroll 8
    for (int j = 0; j < J; ++j) {
      const Vector right = broadcast(kAlongFeatures ? b[j * b_stride + k] : b[k * b_stride + j]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[j][v] += left[v] * right;
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < J; ++j) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      T* to = c + j * c_stride + v * kLanes;
      if constexpr (kAccumulate) {
        store(to, load(to) + sum[j][v]);
      } else {
        store(to, sum[j][v] * scale);
      }
    }
  }
}

template <typename T, int J, bool kAlongFeatures, bool kAccumulate>
inline void multiply_strips(const T* a, int64_t stride, int64_t rows, const T* b, int64_t b_stride, int64_t depth,
                            T scale, T* c) {
  // Of the registers 6 kStrip hold a tile's sums, kStrip its rows and one a column's element: 15 of 16, 29 of 32.
  constexpr int kStrip = MOTIONOPS_VECTOR_REGISTERS / 8;
  constexpr int64_t kLanes = Simd<T>::kLanes;
  int64_t r = 0;
  for (; r + kStrip * kLanes <= rows; r += kStrip * kLanes) {
    multiply_tile<T, kStrip, J, kAlongFeatures, kAccumulate>(a + r, stride, b, b_stride, depth, scale, c + r, stride);
  }
  for (; r < rows; r += kLanes) {
    multiply_tile<T, 1, J, kAlongFeatures, kAccumulate>(a + r, stride, b, b_stride, depth, scale, c + r, stride);
  }
}

// c[j][r] (+)= scale · Σ_k a[k][r] · b(k, j) for all j < columns; `rows` is a multiple of the lanes, `stride` that of a and c.
template <typename T, bool kAlongFeatures, bool kAccumulate>
void multiply(const T* a, int64_t stride, int64_t rows, const T* b, int64_t b_stride, int64_t columns, int64_t depth,
              T scale, T* c) {
  constexpr int64_t kTile = 6;
  const int64_t step = kAlongFeatures ? b_stride : 1;
  int64_t j = 0;
  for (; j + kTile <= columns; j += kTile) {
    multiply_strips<T, kTile, kAlongFeatures, kAccumulate>(a, stride, rows, b + j * step, b_stride, depth, scale,
                                                           c + j * stride);
  }
  for (; j + 2 <= columns; j += 2) {
    multiply_strips<T, 2, kAlongFeatures, kAccumulate>(a, stride, rows, b + j * step, b_stride, depth, scale,
                                                       c + j * stride);
  }
  for (; j < columns; ++j) {
    multiply_strips<T, 1, kAlongFeatures, kAccumulate>(a, stride, rows, b + j * step, b_stride, depth, scale,
                                                       c + j * stride);
  }
}

template <typename Half, typename T>
void widen_row(const void* from, int64_t begin, int64_t count, T* to) {
  const Half* values = static_cast<const Half*>(from) + begin;
  for (int64_t i = 0; i < count; ++i) to[i] = widen(values[i]);
}

// Rows [begin, begin + count) of `rows` as T: straight from memory where they lie there so, through `scratch` otherwise.
template <typename T>
const T* load_rows(const FeatureRows& rows, int64_t begin, int64_t count, int64_t dim, T* scratch) {
  const bool lies_as_it_is = rows.dtype == Dtype::kFloat32 || rows.dtype == Dtype::kFloat64;
  if (lies_as_it_is && rows.index == nullptr) {
    return static_cast<const T*>(rows.data) + begin * dim;
  }
  for (int64_t n = 0; n < count; ++n) {
    const int64_t row = rows.index == nullptr ? begin + n : rows.index[begin + n];
    T* to = scratch + n * dim;
    if (lies_as_it_is) {
      std::copy_n(static_cast<const T*>(rows.data) + row * dim, dim, to);
    } else if (rows.dtype == Dtype::kBFloat16) {
      widen_row<BFloat16>(rows.data, row * dim, dim, to);
    } else {
      widen_row<Float16>(rows.data, row * dim, dim, to);
    }
  }
  return scratch;
}

// packed[d][r] = element d of row begin + r; rows beyond count are 0.
template <typename T>
void pack_rows(const FeatureRows& rows, int64_t begin, int64_t count, int64_t padded, int64_t dim, T* scratch_row,
               T* packed) {
  for (int64_t r = 0; r < padded; ++r) {
    if (r >= count) {
      for (int64_t d = 0; d < dim; ++d) packed[d * padded + r] = 0;
      continue;
    }
    const T* row = load_rows(rows, begin + r, 1, dim, scratch_row);
    for (int64_t d = 0; d < dim; ++d) packed[d * padded + r] = row[d];
  }
}

// Folds a block of logits into maximum and sum, leaves e^{logit − maximum} in its place, counts ranks, and gives in
// `factor` what older sums and expected columns are to be multiplied by. True where a factor differs from 1.
template <typename T, bool kRank>
bool fold(T* logits, int64_t columns, int64_t padded, const T* threshold, T* maximum, T* sum, T* lost, T* count,
          T* factor) {
  using Vector = typename Simd<T>::Vector;
  constexpr int64_t kLanes = Simd<T>::kLanes;
  const Vector nothing = broadcast(-std::numeric_limits<T>::infinity());
  bool moved = false;
  for (int64_t r = 0; r < padded; r += kLanes) {
    const Vector old = load(maximum + r);
    Vector highest = old;
    Vector above = {};
    const Vector own = kRank ? load(threshold + r) : Vector{};
    for (int64_t j = 0; j < columns; ++j) {
      const Vector logit = load(logits + j * padded + r);
      highest = logit > highest ? logit : highest;
      if constexpr (kRank) above += logit > own ? broadcast(T(1)) : Vector{};
    }
    // Where nothing has counted so far, −infinity − (−infinity) must not become NaN.
    const Vector base = highest == nothing ? Vector{} : highest;
    const Vector scaling = exponential<T>(old - base);
    // Thousands of columns are added up, most of them far below the largest: a few at a time, and what each addition of
    // those few loses is carried along (Kahan).
    Vector after = load(sum + r) * scaling;
    Vector missing = load(lost + r) * scaling;
    for (int64_t begin = 0; begin < columns; begin += kAddedAtOnce) {
      const int64_t end = begin + kAddedAtOnce < columns ? begin + kAddedAtOnce : columns;
      Vector total = {};
      for (int64_t j = begin; j < end; ++j) {
        T* at = logits + j * padded + r;
        const Vector probability = exponential<T>(load(at) - base);
        store(at, probability);
        total += probability;
      }
      const Vector before = after;
      const Vector added = total - missing;
      after = before + added;
      missing = (after - before) - added;
    }
    store(maximum + r, highest);
    store(sum + r, after);
    store(lost + r, missing);
    store(factor + r, scaling);
    if constexpr (kRank) store(count + r, load(count + r) + above);
    for (int64_t lane = 0; lane < kLanes; ++lane) moved |= factor[r + lane] != T(1);
  }
  return moved;
}

// Makes of the kept e^{logit − maximum so far} the e^{logit − maximum} of all columns, and divides the panel's weighted
// rows by the sums, so that one product of the two is the panel's share of the expected rows.
template <typename T>
void finish_kept(const StreamingSoftmax<T>& problem, int64_t row_begin, int64_t rows, int64_t columns,
                 const SoftmaxState<T>& state, PanelScratch<T>& scratch, KeptPanel<T>& kept) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  using Vector = typename Simd<T>::Vector;
  const int64_t padded = state.padded;
  const Vector nothing = broadcast(-std::numeric_limits<T>::infinity());
  for (int64_t column = 0; column < columns; column += kBlockColumns) {
    const T* maximum = kept.maximum.get() + column / kBlockColumns * kPanelRows<T>;
    const int64_t end = std::min(column + kBlockColumns, columns);
    for (int64_t r = 0; r < padded; r += kLanes) {
      const Vector highest = load(state.maximum.data() + r);
      const Vector scaling = exponential<T>(load(maximum + r) - (highest == nothing ? Vector{} : highest));
      store(scratch.factor.data() + r, scaling);
      bool moved = false;
      for (int64_t lane = 0; lane < kLanes; ++lane) moved |= scratch.factor[r + lane] != T(1);
      if (!moved) continue;
      for (int64_t j = column; j < end; ++j) {
        T* at = kept.probability.get() + j * padded + r;
        store(at, load(at) * scaling);
      }
    }
  }
  const int64_t stride = kept.row_stride;
  for (int64_t r = 0; r < rows; ++r) {
    const T weight = problem.row_weight == nullptr ? T(1) : problem.row_weight[row_begin + r];
    const T factor = state.sum[r] == 0 ? T(0) : weight / state.sum[r];
    T* to = kept.row.get() + r * stride;
    for (int64_t d = 0; d < problem.dim; ++d) to[d] = scratch.packed[d * padded + r] * factor;
    std::fill(to + problem.dim, to + stride, T(0));
  }
  kept.rows = rows;
  kept.padded = padded;
}

// Adds what the kept panels give to the expected rows of columns [begin, begin + columns); sum is [columns][row_stride].
template <typename T>
void expected_row_item(const StreamingSoftmax<T>& problem, std::span<const KeptPanel<T>> kept, int64_t begin,
                       int64_t columns, T* sum) {
  const int64_t stride = kept[0].row_stride;
  std::fill_n(sum, columns * stride, T(0));
  for (const KeptPanel<T>& panel : kept) {
    // Some features of all rows at a time: they stay in the first cache while the columns pass by.
    for (int64_t d = 0; d < stride; d += kPanelRows<T>) {
      multiply<T, true, true>(panel.row.get() + d, stride, std::min(kPanelRows<T>, stride - d),
                              panel.probability.get() + begin * panel.padded, panel.padded, columns, panel.rows, T(1),
                              sum + d);
    }
  }
  for (int64_t j = 0; j < columns; ++j) {
    T* to = problem.expected_row + (begin + j) * problem.dim;
    for (int64_t d = 0; d < problem.dim; ++d) to[d] += sum[j * stride + d];
  }
}

// One work item of the forward pass: one panel of rows against columns [column_begin, column_end).
// The own column, where there is one, belongs to the first range. Probabilities are left in `kept`, if it is not null; the
// range is that of all columns then.
template <typename T>
void softmax_item(const StreamingSoftmax<T>& problem, int64_t row_begin, int64_t rows, int64_t column_begin,
                  int64_t column_end, SoftmaxState<T>& state, PanelScratch<T>& scratch, KeptPanel<T>* kept) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  using Vector = typename Simd<T>::Vector;
  const int64_t dim = problem.dim;
  const int64_t padded = (rows + kLanes - 1) / kLanes * kLanes;
  const T lowest = -std::numeric_limits<T>::infinity();
  T* packed = scratch.packed.data();
  T* logits = scratch.logits.data();
  T* widened = scratch.widened.data();
  T* expected = state.expected.data();
  T* threshold = scratch.threshold.data();
  T* count = scratch.count.data();
  T* lost = scratch.lost.data();
  pack_rows(problem.rows, row_begin, rows, padded, dim, widened, packed);
  std::fill_n(state.maximum.data(), padded, lowest);
  std::fill_n(state.sum.data(), padded, T(0));
  std::fill_n(count, padded, T(0));
  std::fill_n(lost, padded, T(0));
  std::fill_n(state.rank.begin(), rows, 0);
  state.padded = padded;

  if (problem.own.data != nullptr) {
    // Packed like the rows, the own columns are the expected column so far; logits summed in the order of the micro-kernel.
    pack_rows(problem.own, row_begin, rows, padded, dim, widened, expected);
    for (int64_t r = 0; r < padded; r += kLanes) {
      Vector logit = {};
      for (int64_t d = 0; d < dim; ++d) {
        logit += load(packed + d * padded + r) * load(expected + d * padded + r);
      }
      store(threshold + r, logit * problem.scale);
    }
    if (column_begin == 0) {
      std::copy_n(threshold, padded, state.maximum.data());
      std::fill_n(state.sum.data(), padded, T(1));
      std::copy_n(threshold, rows, state.own_logit.data());
    }
  }
  if (problem.expected != nullptr && (problem.own.data == nullptr || column_begin != 0)) {
    std::fill_n(expected, dim * padded, T(0));
  }

  int64_t segment_begin = 0;
  for (const FeatureRows& segment : problem.columns) {
    const int64_t segment_end = segment_begin + segment.count;
    const int64_t end = std::min(column_end, segment_end);
    for (int64_t column = std::max(column_begin, segment_begin); column < end;) {
      const int64_t columns = std::min(kBlockColumns, end - column);
      const T* block = load_rows(segment, column - segment_begin, columns, dim, widened);
      if (kept != nullptr) logits = kept->probability.get() + column * padded;
      multiply<T, true, false>(packed, padded, padded, block, dim, columns, dim, problem.scale, logits);
      if (problem.policy != nullptr) {
        problem.policy->exclude({logits, padded, row_begin, rows, column, columns, false});
      }
      T* factor = scratch.factor.data();
      const bool moved = problem.rank != nullptr
                             ? fold<T, true>(logits, columns, padded, threshold, state.maximum.data(), state.sum.data(),
                                             lost, count, factor)
                             : fold<T, false>(logits, columns, padded, threshold, state.maximum.data(),
                                              state.sum.data(), lost, count, factor);
      if (kept != nullptr) {
        std::copy_n(state.maximum.data(), padded, kept->maximum.get() + column / kBlockColumns * kPanelRows<T>);
      }
      if (problem.rank != nullptr) {
        // Floats count exactly only to 2^24, so they are emptied after every block.
        for (int64_t r = 0; r < rows; ++r) state.rank[r] += static_cast<int32_t>(count[r]);
        std::fill_n(count, padded, T(0));
      }
      if (problem.expected != nullptr) {
        if (moved) {
          for (int64_t d = 0; d < dim; ++d) {
            for (int64_t r = 0; r < padded; r += kLanes) {
              T* at = expected + d * padded + r;
              store(at, load(at) * load(factor + r));
            }
          }
        }
        multiply<T, false, true>(logits, padded, padded, block, dim, dim, columns, T(1), expected);
      }
      column += columns;
    }
    segment_begin = segment_end;
  }
  if (kept != nullptr) finish_kept(problem, row_begin, rows, column_end, state, scratch, *kept);
}

// One work item of the transposed pass: one panel of keys against all queries; scratch.gradient is [D][padded].
template <typename T>
void gradient_item(const StreamingGradient<T>& problem, int64_t row_begin, int64_t rows, PanelScratch<T>& scratch,
                   T* gradient) {
  constexpr int64_t kLanes = Simd<T>::kLanes;
  const int64_t dim = problem.dim;
  const int64_t padded = (rows + kLanes - 1) / kLanes * kLanes;
  T* packed = scratch.packed.data();
  T* logits = scratch.logits.data();
  T* widened = scratch.widened.data();
  pack_rows(problem.rows, row_begin, rows, padded, dim, widened, packed);
  std::fill_n(gradient, dim * padded, T(0));
  for (int64_t column = 0; column < problem.columns.count; column += kBlockColumns) {
    const int64_t columns = std::min(kBlockColumns, problem.columns.count - column);
    const T* block = load_rows(problem.columns, column, columns, dim, widened);
    multiply<T, true, false>(packed, padded, padded, block, dim, columns, dim, problem.scale, logits);
    if (problem.policy != nullptr) {
      problem.policy->exclude({logits, padded, row_begin, rows, column, columns, true});
    }
    for (int64_t j = 0; j < columns; ++j) {
      const T log_sum_exp = problem.log_sum_exp[column + j];
      const T weight = problem.weight[column + j];
      for (int64_t r = 0; r < padded; r += kLanes) {
        T* at = logits + j * padded + r;
        store(at, exponential<T>(load(at) - log_sum_exp) * weight);
      }
    }
    multiply<T, false, true>(logits, padded, padded, block, dim, dim, columns, T(1), gradient);
  }
  const T factor = problem.scale * problem.sign;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = problem.rows.index == nullptr ? row_begin + r : problem.rows.index[row_begin + r];
    T* to = problem.gradient + row * dim;
    for (int64_t d = 0; d < dim; ++d) to[d] += factor * gradient[d * padded + r];
  }
}
