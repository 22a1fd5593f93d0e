// One block of one clip, compiled once for each SIMD target: included by frame_difference_cpu.cpp through
// core/simd_targets.inl. in(t) and out(t) point at the block in frame t.

// result = (frame - other + offset) / 2
template <typename T>
void half_difference(const T* frame, const T* other, T* __restrict result, int64_t count, Wide<T> offset) {
  if constexpr (std::is_same_v<T, Float16>) {
    // Converted piece by piece: in one loop the compiler does not vectorise these conversions, which costs six times
    // the time. The other types lose by it.
    constexpr int64_t kPiece = 256;
    float first[kPiece], second[kPiece];
    for (int64_t start = 0; start < count; start += kPiece) {
      const int64_t size = std::min(kPiece, count - start);
      for (int64_t i = 0; i < size; ++i) first[i] = widen(frame[start + i]);
      for (int64_t i = 0; i < size; ++i) second[i] = widen(other[start + i]);
      for (int64_t i = 0; i < size; ++i) result[start + i] = narrow<T>((first[i] - second[i] + offset) / 2);
    }
  } else {
    for (int64_t i = 0; i < count; ++i) result[i] = narrow<T>((widen(frame[i]) - widen(other[i]) + offset) / 2);
  }
}

template <typename T, typename In, typename Out>
void forward_block(const In& in, const Out& out, int64_t frames, int64_t count, bool wrap) {
  const bool repeat = !wrap && frames > 1;
  half_difference<T>(in(repeat ? 1 : 0), in(repeat ? 0 : frames - 1), out(0), count, 1);
  for (int64_t t = 1; t < frames; ++t) half_difference<T>(in(t), in(t - 1), out(t), count, 1);
}

// The backward pass of two frames and more where converting a value costs more than reading it: each is converted once.
template <typename T, typename In, typename Out>
void backward_converting_once(const In& in, const Out& out, int64_t frames, int64_t count, bool wrap) {
  using Values = std::array<Wide<T>, kBlock>;
  // The gradient of the difference x_t - x_{t-1}, t = 0 .. T; x_{-1} and x_T are the frames that wrap, or nothing.
  const auto load = [&](int64_t t, Values& values) {
    if (wrap || (t > 0 && t < frames)) {
      const T* from = in(t == frames ? 0 : t);
      for (int64_t i = 0; i < count; ++i) values[i] = widen(from[i]);
      if (!wrap && t == 1) {
        const T* repeated = in(0);
        for (int64_t i = 0; i < count; ++i) values[i] = widen(repeated[i]) + values[i];
      }
    } else {
      std::fill_n(values.begin(), count, Wide<T>{0});
    }
  };
  Values current, next;
  load(0, current);
  for (int64_t t = 0; t < frames; ++t) {
    load(t + 1, next);
    T* __restrict result = out(t);
    for (int64_t i = 0; i < count; ++i) {
      result[i] = narrow<T>((current[i] - next[i]) / 2);
      current[i] = next[i];
    }
  }
}

template <typename T, typename In, typename Out>
void backward_block(const In& in, const Out& out, int64_t frames, int64_t count, bool wrap) {
  if (frames == 1) {
    std::fill_n(out(0), count, T{});  // the difference of a frame with itself is constant
    return;
  }
  if constexpr (std::is_same_v<T, Float16>) return backward_converting_once<T>(in, out, frames, count, wrap);
  int64_t t = 0;
  if (!wrap) {  // the first two frames share the first two gradients
    const T *first = in(0), *second = in(1), *third = frames > 2 ? in(2) : nullptr;
    T* __restrict to_first = out(0), * __restrict to_second = out(1);
    for (int64_t i = 0; i < count; ++i) {
      const Wide<T> both = widen(first[i]) + widen(second[i]);
      to_first[i] = narrow<T>(-both / 2);
      to_second[i] = narrow<T>((third == nullptr ? both : both - widen(third[i])) / 2);
    }
    t = 2;
  }
  for (; t < frames - 1; ++t) half_difference<T>(in(t), in(t + 1), out(t), count, 0);
  if (t == frames) return;
  if (wrap) {
    half_difference<T>(in(t), in(0), out(t), count, 0);
  } else {
    const T* last = in(t);
    T* __restrict result = out(t);
    for (int64_t i = 0; i < count; ++i) result[i] = narrow<T>(widen(last[i]) / 2);
  }
}
