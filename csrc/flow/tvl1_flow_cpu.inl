// The work on one pair, compiled once for each SIMD target: included by tvl1_flow_cpu.cpp through core/simd_targets.inl.
// No include guard, no includes.

// A new row of u and v from the rows of the dual variables at and above it. At x - 1 = -1 lies a column of zeros.
template <typename Real>
inline void primal_row(const Planes<Real>& planes, int64_t y, Real limit, Real tightness) {
  const int64_t row = y * planes.pitch, above = row - planes.pitch;
  Real* __restrict u = planes.u + row;
  Real* __restrict v = planes.v + row;
  const Real *gx = planes.gx + row, *gy = planes.gy + row, *r = planes.r + row, *inverse = planes.inverse + row;
  const Real *ux = planes.ux + row, *uy = planes.uy + row, *vx = planes.vx + row, *vy = planes.vy + row;
  const Real *uy_above = planes.uy + above, *vy_above = planes.vy + above;
  const int64_t width = planes.width;
  for (int64_t x = 0; x < width; ++x) {
    const Real rho = r[x] + gx[x] * u[x] + gy[x] * v[x];
    Real step = -rho * inverse[x];
    step = step < limit ? step : limit;
    step = step > -limit ? step : -limit;
    u[x] += step * gx[x] + tightness * (ux[x] - ux[x - 1] + uy[x] - uy_above[x]);
    v[x] += step * gy[x] + tightness * (vx[x] - vx[x - 1] + vy[x] - vy_above[x]);
  }
}

template <typename Real>
inline void dual_values(const Real* u, const Real* u_below, Real* __restrict px, Real* __restrict py, int64_t width,
                        Real k) {
  for (int64_t x = 0; x < width - 1; ++x) {
    const Real dx = u[x + 1] - u[x], dy = u_below[x] - u[x];
    const Real scale = Real(1) / (Real(1) + k * std::sqrt(dx * dx + dy * dy));
    px[x] = (px[x] + k * dx) * scale;
    py[x] = (py[x] + k * dy) * scale;
  }
  const int64_t x = width - 1;  // its x difference is 0, and so px stays 0
  const Real dy = u_below[x] - u[x];
  py[x] = (py[x] + k * dy) / (Real(1) + k * std::abs(dy));
}

template <typename Real>
inline void dual_row(const Planes<Real>& planes, int64_t y, Real k) {
  const int64_t row = y * planes.pitch, below = y + 1 < planes.height ? row + planes.pitch : row;
  dual_values(planes.u + row, planes.u + below, planes.ux + row, planes.uy + row, planes.width, k);
  dual_values(planes.v + row, planes.v + below, planes.vx + row, planes.vy + row, planes.width, k);
}

// All iterations in one sweep from top to bottom: iteration i works two rows behind iteration i - 1, whose values it
// finds in the cache. A row's u is followed by p of the row above, which no other u of the iteration needs any more.
template <typename Real>
void iterate(const Planes<Real>& planes, int64_t iterations, Real limit, Real tightness, Real k) {
  const int64_t height = planes.height;
  for (int64_t front = 0; front <= height + 2 * (iterations - 1); ++front) {
    for (int64_t i = 0; i < iterations; ++i) {
      const int64_t y = front - 2 * i;
      if (y < 0) break;
      if (y > height) continue;
      if (y < height) primal_row(planes, y, limit, tightness);
      if (y > 0) dual_row(planes, y - 1, k);
    }
  }
}

// Warps the packed image (value, x gradient, y gradient, 0) by the flow, and sets gx, gy, r and 1 / |g|^2.
template <typename Real>
void linearise(const Planes<Real>& planes, const Real* first, const Real* packed) {
  const int64_t height = planes.height, width = planes.width;
  const Real right = static_cast<Real>(width - 1), bottom = static_cast<Real>(height - 1);
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const int64_t at = y * planes.pitch + x;
      const Real u = planes.u[at], v = planes.v[at];
      const Real px = static_cast<Real>(x) + u, py = static_cast<Real>(y) + v;
      Real warped[4] = {0, 0, 0, 0};
      const bool inside = px >= 0 && px <= right && py >= 0 && py <= bottom;
      if (inside) {
        const auto left = static_cast<int64_t>(px), top = static_cast<int64_t>(py);
        Real wx[4], wy[4];
        cubic_weights(px - static_cast<Real>(left), wx);
        cubic_weights(py - static_cast<Real>(top), wy);
        for (int i = 0; i < 4; ++i) {
          const Real* row = packed + std::clamp<int64_t>(top + i - 1, 0, height - 1) * width * 4;
          Real line[4] = {0, 0, 0, 0};
          for (int j = 0; j < 4; ++j) {
            const Real* tap = row + std::clamp<int64_t>(left + j - 1, 0, width - 1) * 4;
            for (int c = 0; c < 4; ++c) line[c] += wx[j] * tap[c];
          }
          for (int c = 0; c < 4; ++c) warped[c] += wy[i] * line[c];
        }
      }
      const Real square = warped[1] * warped[1] + warped[2] * warped[2];
      planes.gx[at] = warped[1];
      planes.gy[at] = warped[2];
      planes.r[at] = inside ? warped[0] - warped[1] * u - warped[2] * v - first[y * width + x] : Real{0};
      planes.inverse[at] = square > Real(kFlatGradient) ? Real(1) / square : Real{0};
    }
  }
}

// The median of kSide² values for kLanes pixels at once, by forgetting: of any kCount / 2 + 2 values neither the smallest
// nor the largest is the median, so they are dropped and the next value comes in.
template <typename Vector, typename Real, int kSide>
inline Vector median_of_window(const Real* corner, int64_t pitch) {
  constexpr int kCount = kSide * kSide, kKept = kCount / 2 + 2;
  Vector kept[kKept];
  const auto load = [&](int i) {
    Vector value;
    std::memcpy(&value, corner + i / kSide * pitch + i % kSide, sizeof value);
    return value;
  };
  const auto exchange = [](Vector& low, Vector& high) {
    const Vector a = low, b = high;
    low = a < b ? a : b;
    high = a < b ? b : a;
  };
#pragma GCC unroll 32
  for (int i = 0; i < kKept; ++i) kept[i] = load(i);
#pragma GCC unroll 32
  for (int size = kKept; size > 1; --size) {
    // halves first: the smallest is then in the lower one and the largest in the upper one
#pragma GCC unroll 32
    for (int i = 0; i < size / 2; ++i) exchange(kept[i], kept[size - 1 - i]);
#pragma GCC unroll 32
    for (int i = 1; i < (size + 1) / 2; ++i) exchange(kept[0], kept[i]);
#pragma GCC unroll 32
    for (int i = size / 2; i < size - 1; ++i) exchange(kept[i], kept[size - 1]);
    if (size == 3) return kept[1];
    kept[0] = load(kCount - (size - 3));
  }
  return kept[0];
}

template <typename Real, int kSide>
void median_plane(Real* plane, int64_t height, int64_t width, int64_t pitch, Real* padded) {
  typedef Real Vector __attribute__((vector_size(MOTIONOPS_VECTOR_BYTES)));
  constexpr int64_t kLanes = MOTIONOPS_VECTOR_BYTES / sizeof(Real), kEdge = kSide / 2;
  const int64_t stride = padded_stride<Real>(width);
  for (int64_t y = -kEdge; y < height + kEdge; ++y) {
    const Real* from = plane + std::clamp<int64_t>(y, 0, height - 1) * pitch;
    Real* to = padded + (y + kEdge) * stride;
    std::fill_n(to, kEdge, from[0]);
    std::copy_n(from, width, to + kEdge);
    std::fill(to + kEdge + width, to + stride, from[width - 1]);
  }
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; x += kLanes) {
      const Vector result = median_of_window<Vector, Real, kSide>(padded + y * stride + x, stride);
      std::memcpy(plane + y * pitch + x, &result, static_cast<size_t>(std::min(kLanes, width - x)) * sizeof(Real));
    }
  }
}

// One scale: `planes` holds the flow that it begins with and the one that it ends with.
template <typename Real>
void solve_scale(const Planes<Real>& planes, const Real* first, const Real* packed, Real* padded,
                 const Tvl1Flow& args) {
  for (int64_t warp = 0; warp < args.warps; ++warp) {
    for (Real* plane : {planes.u, planes.v}) {
      if (args.median == 5) median_plane<Real, 5>(plane, planes.height, planes.width, planes.pitch, padded);
      if (args.median == 3) median_plane<Real, 3>(plane, planes.height, planes.width, planes.pitch, padded);
    }
    linearise(planes, first, packed);
    iterate(planes, args.iterations, static_cast<Real>(args.smoothness * args.tightness),
            static_cast<Real>(args.tightness), static_cast<Real>(args.tau / args.tightness));
  }
}
