// The work on one frame, compiled once for each SIMD target: included by augment_clips_cpu.cpp through
// core/simd_targets.inl. No include guard, no includes. All loops run over planes of contiguous values and have no branch
// inside, so that the compiler vectorises them.

// dst[i] = (1 - weight) · upper[i] + weight · lower[i], for pixels [first, last] of two lines; interleaved RGB.
template <typename Real>
void blend_lines(const AugmentVideo& video, const uint8_t* __restrict upper, const uint8_t* __restrict lower,
                 Real weight, int64_t first, int64_t last, Real* __restrict line) {
  const Real rest = 1 - weight;
  if (video.stride_c == 1 && video.stride_x == 3) {
    for (int64_t i = 3 * first; i < 3 * (last + 1); ++i) line[i] = rest * upper[i] + weight * lower[i];
    return;
  }
  for (int64_t x = first; x <= last; ++x) {
    for (int64_t c = 0; c < 3; ++c) {
      const int64_t from = x * video.stride_x + c * video.stride_c;
      line[3 * x + c] = rest * upper[from] + weight * lower[from];
    }
  }
}

// Crops frame t to planes [3][height][width] of values in 0..1: two lines become one, which is resampled to `width`.
template <typename Real>
void crop(const AugmentVideo& video, int64_t t, int64_t height, int64_t width, const Taps<Real>& rows,
          const Taps<Real>& columns, Real* line, Real* planes) {
  const uint8_t* frame = video.frames + t * video.stride_t;
  const int32_t* __restrict low = columns.low.data();
  const int32_t* __restrict high = columns.high.data();
  const Real* __restrict weights = columns.weight.data();
  for (int64_t y = 0; y < height; ++y) {
    blend_lines(video, frame + rows.low[y] * video.stride_y, frame + rows.high[y] * video.stride_y, rows.weight[y],
                columns.first, columns.last, line);
    for (int64_t c = 0; c < 3; ++c) {
      const Real* __restrict from = line + c;
      Real* __restrict to = planes + (c * height + y) * width;
      for (int64_t x = 0; x < width; ++x) {
        const Real a = from[3 * low[x]], b = from[3 * high[x]];
        to[x] = (a + (b - a) * weights[x]) * (Real{1} / 255);
      }
    }
  }
}

template <typename Real>
inline Real clamp01(Real value) {
  value = value < 0 ? Real{0} : value;
  return value > 1 ? Real{1} : value;
}

template <typename Real>
inline Real gray_of(Real red, Real green, Real blue) {
  return Real(0.2989) * red + Real(0.587) * green + Real(0.114) * blue;
}

template <typename Real>
void brightness(Real* __restrict x, int64_t count, Real factor) {
  for (int64_t i = 0; i < count; ++i) x[i] = clamp01(factor * x[i]);
}

template <typename Real>
void blend_with(Real* __restrict x, int64_t count, Real factor, Real base) {
  const Real added = (1 - factor) * base;
  for (int64_t i = 0; i < count; ++i) x[i] = clamp01(factor * x[i] + added);
}

template <typename Real>
void saturation(Real* __restrict red, Real* __restrict green, Real* __restrict blue, int64_t count, Real factor) {
  for (int64_t i = 0; i < count; ++i) {
    const Real added = (1 - factor) * gray_of(red[i], green[i], blue[i]);
    red[i] = clamp01(factor * red[i] + added);
    green[i] = clamp01(factor * green[i] + added);
    blue[i] = clamp01(factor * blue[i] + added);
  }
}

// M - C · clamp(min(k, 4 - k), 0, 1), k = (n + h) mod 6: see colour.py. h + n is in [-4, 14).
template <typename Real>
inline Real turned(Real angle, Real largest, Real chroma) {
  angle = angle < 0 ? angle + 6 : angle;
  angle = angle >= 6 ? angle - 6 : angle;
  angle = angle >= 6 ? angle - 6 : angle;
  const Real back = 4 - angle;
  return largest - chroma * clamp01(angle < back ? angle : back);
}

template <typename Real>
void hue(Real* __restrict red, Real* __restrict green, Real* __restrict blue, int64_t count, Real shift) {
  for (int64_t i = 0; i < count; ++i) {
    const Real r = red[i], g = green[i], b = blue[i];
    Real largest = r > g ? r : g, least = r < g ? r : g;
    largest = largest > b ? largest : b;
    least = least < b ? least : b;
    const Real chroma = largest - least;
    const Real scale = 1 / (chroma > std::numeric_limits<Real>::min() ? chroma : std::numeric_limits<Real>::min());
    const Real at_red = (g - b) * scale, at_green = (b - r) * scale + 2, at_blue = (r - g) * scale + 4;
    Real angle = largest == g ? at_green : at_blue;
    angle = (largest == r ? at_red : angle) + 6 * shift;
    red[i] = turned(angle + 5, largest, chroma);
    green[i] = turned(angle + 3, largest, chroma);
    blue[i] = turned(angle + 1, largest, chroma);
  }
}

// Sum of the gray, in as many partial sums as a vector has lanes.
template <typename Real>
double gray_sum(const Real* __restrict red, const Real* __restrict green, const Real* __restrict blue, int64_t count) {
  constexpr int64_t kLanes = 16;
  Real partial[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      partial[lane] += gray_of(red[i + lane], green[i + lane], blue[i + lane]);
    }
  }
  double total = 0;
  for (; i < count; ++i) total += gray_of(red[i], green[i], blue[i]);
  for (const Real part : partial) total += part;
  return total;
}

// One adjustment of pixels that lie in the first-level cache; `mean` is that of contrast.
template <typename Real>
void adjust(int64_t step, Real factor, Real mean, Real* red, Real* green, Real* blue, int64_t count) {
  switch (step) {
    case kBrightness:
      for (Real* plane : {red, green, blue}) brightness(plane, count, factor);
      break;
    case kContrast:
      for (Real* plane : {red, green, blue}) blend_with(plane, count, factor, mean);
      break;
    case kSaturation:
      saturation(red, green, blue, count, factor);
      break;
    default:
      hue(red, green, blue, count, factor);
  }
}

template <typename T, typename Real>
void normalise(const Real* __restrict from, T* __restrict to, int64_t count, Real mean, Real scale) {
  for (int64_t i = 0; i < count; ++i) to[i] = narrow<T>((from[i] - mean) * scale);
}

// to[x] = Σ_k weights[k] · lines(k)[x], x < count. The sums stay in registers: kept in memory between the taps, they made
// the blur eight times as slow.
template <typename Real, typename Lines>
void weighted_sum(const Lines& lines, const Real* weights, int64_t taps, Real* to, int64_t count) {
  typedef Real Vector __attribute__((vector_size(64)));
  typedef Real Unaligned __attribute__((vector_size(64), aligned(alignof(Real)), may_alias));
  constexpr int64_t kLanes = 64 / sizeof(Real), kStep = 2 * kLanes;
  const auto block = [&](int64_t x) {
    Vector first{}, second{};
    for (int64_t k = 0; k < taps; ++k) {
      const Real* from = lines(k) + x;
      first += *reinterpret_cast<const Unaligned*>(from) * weights[k];
      second += *reinterpret_cast<const Unaligned*>(from + kLanes) * weights[k];
    }
    *reinterpret_cast<Unaligned*>(to + x) = first;
    *reinterpret_cast<Unaligned*>(to + x + kLanes) = second;
  };
  if (count < kStep) {
    for (int64_t x = 0; x < count; ++x) {
      Real sum = 0;
      for (int64_t k = 0; k < taps; ++k) sum += weights[k] * lines(k)[x];
      to[x] = sum;
    }
    return;
  }
  for (int64_t x = 0; x + kStep <= count; x += kStep) block(x);
  if (count % kStep != 0) block(count - kStep);  // overlaps the block before, with the same values
}

// Blurs along the lines of one plane [height][width]; `line` holds width + 2 radius values.
template <typename Real>
void blur_rows(const Real* from, Real* to, int64_t height, int64_t width, const Real* weights, int64_t radius,
               Real* line) {
  for (int64_t y = 0; y < height; ++y) {
    const Real* source = from + y * width;
    for (int64_t i = 0; i < radius; ++i) {
      line[i] = source[radius - i];
      line[radius + width + i] = source[width - 2 - i];
    }
    std::copy_n(source, width, line + radius);
    weighted_sum([line](int64_t k) { return line + k; }, weights, 2 * radius + 1, to + y * width, width);
  }
}

// Blurs along the columns and writes the normalised plane; `line` holds width values.
template <typename T, typename Real>
void blur_columns(const Real* from, T* to, int64_t height, int64_t width, const Real* weights, int64_t radius,
                  Real mean, Real scale, Real* line) {
  for (int64_t y = 0; y < height; ++y) {
    const auto source = [&](int64_t k) {
      int64_t row = y + k - radius;
      row = row < 0 ? -row : row;
      return from + (row >= height ? 2 * (height - 1) - row : row) * width;
    };
    weighted_sum(source, weights, 2 * radius + 1, line, width);
    normalise(line, to + y * width, width, mean, scale);
  }
}

// Adjusts the planes [3][height][width] and writes them to the output's three planes, `stride` elements apart.
template <typename T, typename Real>
void finish_frame(const Look<Real>& look, int64_t height, int64_t width, Real* planes, Real* blurred, Real* line,
                  T* output, int64_t stride) {
  const int64_t pixels = height * width;
  // Blocks of pixels go through all steps at once; only contrast's mean wants the whole frame before it.
  const int64_t contrast = std::find(look.step, look.step + look.steps, kContrast) - look.step;
  Real mean = 0;
  const int segments = contrast < look.steps ? 2 : 1;
  for (int segment = 0; segment < segments; ++segment) {
    const bool last = segment == segments - 1;
    const int64_t done = segment == 0 ? 0 : contrast, until = segment == 0 ? contrast : look.steps;
    double total = 0;
    for (int64_t start = 0; start < pixels; start += kBlock) {
      const int64_t count = std::min(kBlock, pixels - start);
      Real *red = planes + start, *green = red + pixels, *blue = green + pixels;
      for (int64_t k = done; k < until; ++k) adjust(look.step[k], look.factor[k], mean, red, green, blue, count);
      if (!last) {
        total += gray_sum(red, green, blue, count);
        continue;
      }
      if (look.grayscale) {
        for (int64_t i = 0; i < count; ++i) red[i] = green[i] = blue[i] = gray_of(red[i], green[i], blue[i]);
      }
      if (look.radius >= 0) continue;
      for (int64_t c = 0; c < 3; ++c) {
        normalise(red + c * pixels, output + c * stride + start, count, look.mean[c], look.scale[c]);
      }
    }
    mean = static_cast<Real>(total / static_cast<double>(pixels));
  }
  if (look.radius < 0) return;
  for (int64_t c = 0; c < 3; ++c) {
    blur_rows(planes + c * pixels, blurred, height, width, look.weights.data(), look.radius, line);
    blur_columns(blurred, output + c * stride, height, width, look.weights.data(), look.radius, look.mean[c],
                 look.scale[c], line);
  }
}

template <typename Real>
void difference(const Real* __restrict frame, const Real* __restrict before, Real* __restrict to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = (frame[i] - before[i] + 1) * Real(0.5);
}

// Frames [begin, end) of clip b.
template <typename T, typename Real>
void frames(const AugmentClips& args, const Clip<Real>& clip, Scratch<Real>& scratch, int64_t begin, int64_t end) {
  const int64_t height = args.height, width = args.width, pixels = height * width;
  Real* line = scratch.line.data();
  const auto cropped = [&](int64_t t, Real* planes) {
    crop(clip.video, t, height, width, clip.rows, clip.columns, line, planes);
  };
  if (args.difference) cropped((begin + args.frames - 1) % args.frames, scratch.before.data());
  for (int64_t t = begin; t < end; ++t) {
    cropped(t, scratch.frame.data());
    Real* planes = scratch.frame.data();
    if (args.difference) {
      planes = scratch.change.data();
      difference(scratch.frame.data(), scratch.before.data(), planes, 3 * pixels);
      std::swap(scratch.frame, scratch.before);
    }
    const int64_t stride = args.frames * pixels;
    T* output = static_cast<T*>(args.output) + clip.index * 3 * stride + t * pixels;
    finish_frame<T, Real>(clip.look, height, width, planes, scratch.blurred.data(), line, output, stride);
  }
}
