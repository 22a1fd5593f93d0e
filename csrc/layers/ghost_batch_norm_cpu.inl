// Rows of ghost_batch_norm, compiled once for each SIMD target: included by ghost_batch_norm_cpu.cpp through
// core/simd_targets.inl. A row holds `width` values, and everything of a channel lies in arrays of that length, so that
// the inner loops run along memory, without a branch.

// Calls add(row) for all rows; after every kSummed of them, and at the end, what it has added to `inner` (two arrays of
// `width` values) goes over to `first` and `second`: so rounding grows with kSummed and not with the rows.
template <typename W, typename Add>
void sum_in_two_steps(int64_t count, int64_t width, std::vector<W>& inner, W* __restrict first, W* __restrict second,
                      const Add& add) {
  constexpr int64_t kSummed = 32;
  inner.assign(2 * width, W{0});
  std::fill_n(first, width, W{0});
  std::fill_n(second, width, W{0});
  W* __restrict inner_first = inner.data();
  W* __restrict inner_second = inner.data() + width;
  for (int64_t start = 0; start < count; start += kSummed) {
    for (int64_t row = start; row < std::min(start + kSummed, count); ++row) add(row, inner_first, inner_second);
    for (int64_t i = 0; i < width; ++i) {
      first[i] += inner_first[i];
      second[i] += inner_second[i];
      inner_first[i] = inner_second[i] = 0;
    }
  }
}

// Sums of the distances from the first row, and of their squares, turned into the mean, counted from `common` (a row), and
// the squared distances from it.
template <typename T>
void moments_of_rows(const T* rows, int64_t count, int64_t width, const Wide<T>* __restrict common,
                     Wide<T>* __restrict mean, Wide<T>* __restrict squares) {
  using W = Wide<T>;
  std::vector<W> origins(width), inner;
  W* __restrict origin = origins.data();
  for (int64_t i = 0; i < width; ++i) origin[i] = widen(rows[i]);
  sum_in_two_steps(count, width, inner, mean, squares, [&](int64_t row, W* __restrict sum, W* __restrict square) {
    const T* __restrict values = rows + row * width;
    for (int64_t i = 0; i < width; ++i) {
      const W distance = widen(values[i]) - origin[i];
      sum[i] += distance;
      square[i] += distance * distance;
    }
  });
  const W inverse = W{1} / static_cast<W>(count);
  for (int64_t i = 0; i < width; ++i) {
    const W rest = squares[i] - mean[i] * mean[i] * inverse;
    squares[i] = rest < 0 ? W{0} : rest;  // a NaN stays
    mean[i] = (origin[i] - common[i]) + mean[i] * inverse;
  }
}

template <typename T, bool kResidual, bool kRelu>
void normalise_rows(const T* input, const T* residual, T* output, int64_t count, int64_t width,
                    const Wide<T>* __restrict mean, const Wide<T>* __restrict scale, const Wide<T>* __restrict bias) {
  for (int64_t row = 0; row < count; ++row) {
    const T* __restrict values = input + row * width;
    [[maybe_unused]] const T* __restrict added = residual + (kResidual ? row * width : 0);
    T* __restrict result = output + row * width;
    for (int64_t i = 0; i < width; ++i) {
      Wide<T> z = (widen(values[i]) - mean[i]) * scale[i] + bias[i];
      if constexpr (kResidual) z += widen(added[i]);
      if constexpr (kRelu) z = z < 0 ? Wide<T>{0} : z;  // a NaN stays
      result[i] = narrow<T>(z);
    }
  }
}

// dz of a value: as torch's, ReLU lets the gradient of a NaN through.
template <typename T, Mask kMask>
inline Wide<T> masked(T grad, [[maybe_unused]] Wide<T> z, [[maybe_unused]] const T* output, int64_t i) {
  const Wide<T> dy = widen(grad);
  if constexpr (kMask == Mask::kRecomputed) return widen(narrow<T>(z)) <= 0 ? Wide<T>{0} : dy;
  if constexpr (kMask == Mask::kOutput) return widen(output[i]) <= 0 ? Wide<T>{0} : dy;
  return dy;
}

// Adds dz and dz (x - mean) of the rows; with kOutput dz is written too.
template <typename T, Mask kMask>
void sums_of_rows(const T* grad, const T* input, const T* output, T* grad_residual, int64_t count, int64_t width,
                  const Wide<T>* __restrict mean, const Wide<T>* __restrict scale, const Wide<T>* __restrict bias,
                  Wide<T>* __restrict total, Wide<T>* __restrict moment) {
  using W = Wide<T>;
  std::vector<W> inner;
  sum_in_two_steps(count, width, inner, total, moment, [&](int64_t row, W* __restrict sum, W* __restrict product) {
    const T* __restrict grads = grad + row * width;
    const T* __restrict values = input + row * width;
    [[maybe_unused]] const T* __restrict through = kMask == Mask::kOutput ? output + row * width : nullptr;
    [[maybe_unused]] T* __restrict left = kMask == Mask::kOutput ? grad_residual + row * width : nullptr;
    for (int64_t i = 0; i < width; ++i) {
      const W distance = widen(values[i]) - mean[i];
      const W dz = masked<T, kMask>(grads[i], distance * scale[i] + bias[i], through, i);
      if constexpr (kMask == Mask::kOutput) left[i] = narrow<T>(dz);
      sum[i] += dz;
      product[i] += dz * distance;
    }
  });
}

template <typename T, Mask kMask>
void grad_input_of_rows(const T* grad, const T* input, T* grad_input, int64_t count, int64_t width,
                        const Wide<T>* __restrict mean, const Wide<T>* __restrict scale, const Wide<T>* __restrict bias,
                        const Wide<T>* __restrict slope, const Wide<T>* __restrict offset) {
  for (int64_t row = 0; row < count; ++row) {
    const T* __restrict grads = grad + row * width;
    const T* __restrict values = input + row * width;
    T* __restrict result = grad_input + row * width;
    for (int64_t i = 0; i < width; ++i) {
      const Wide<T> distance = widen(values[i]) - mean[i];
      const Wide<T> dz = masked<T, kMask>(grads[i], distance * scale[i] + bias[i], nullptr, i);
      result[i] = narrow<T>(scale[i] * dz + (slope[i] * distance + offset[i]));
    }
  }
}
