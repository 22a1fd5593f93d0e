// One block of one clip, compiled once for each SIMD target: included by frame_difference_cpu.cpp through
// core/simd_targets.inl. in(t) and out(t) point at the block in frame t.

template <typename T, typename In, typename Out>
void forward_block(const In& in, const Out& out, int64_t frames, int64_t count, bool wrap) {
  const auto difference = [count](const T* frame, const T* before, T* __restrict result) {
    if constexpr (std::is_same_v<T, Float16>) {
      // Converted piece by piece: in one loop the compiler does not vectorise these conversions, which costs six times
      // the time. The other types lose by it.
      constexpr int64_t kPiece = 256;
      float now[kPiece], earlier[kPiece];
      for (int64_t start = 0; start < count; start += kPiece) {
        const int64_t size = std::min(kPiece, count - start);
        for (int64_t i = 0; i < size; ++i) now[i] = widen(frame[start + i]);
        for (int64_t i = 0; i < size; ++i) earlier[i] = widen(before[start + i]);
        for (int64_t i = 0; i < size; ++i) result[start + i] = narrow<T>((now[i] - earlier[i] + 1) / 2);
      }
    } else {
      for (int64_t i = 0; i < count; ++i) result[i] = narrow<T>((widen(frame[i]) - widen(before[i]) + 1) / 2);
    }
  };
  if (wrap || frames == 1) {
    difference(in(0), in(frames - 1), out(0));
  } else {
    difference(in(1), in(0), out(0));
  }
  for (int64_t t = 1; t < frames; ++t) difference(in(t), in(t - 1), out(t));
}

template <typename T, typename In, typename Out>
void backward_block(const In& in, const Out& out, int64_t frames, int64_t count, bool wrap) {
  if (frames == 1) {
    std::fill_n(out(0), count, T{});  // the difference of a frame with itself is constant
    return;
  }
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
