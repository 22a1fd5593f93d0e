// Rows of flow_edges, compiled once for each SIMD target: included by flow_edges_cpu.cpp through core/simd_targets.inl. The
// loops have no branch inside, so that the compiler vectorises them.

// |flow| of row y into line[0 .. W + 1], whose first and last values repeat their neighbours.
template <typename T>
void magnitude_row(const T* __restrict u, const T* __restrict v, int64_t width, Wide<T>* __restrict line) {
  for (int64_t x = 0; x < width; ++x) {
    const Wide<T> a = widen(u[x]), b = widen(v[x]);
    line[x + 1] = std::sqrt(a * a + b * b);
  }
  line[0] = line[1];
  line[width + 1] = line[width];
}

// The edges of one row from the magnitudes above, at and below it.
template <typename T>
void edge_row(const Wide<T>* __restrict above, const Wide<T>* __restrict at, const Wide<T>* __restrict below,
              int64_t width, Wide<T> max_value, T* __restrict edges) {
  for (int64_t x = 0; x < width; ++x) {
    const Wide<T> gx = (above[x + 2] - above[x]) + 2 * (at[x + 2] - at[x]) + (below[x + 2] - below[x]);
    const Wide<T> gy = (below[x] - above[x]) + 2 * (below[x + 1] - above[x + 1]) + (below[x + 2] - above[x + 2]);
    const Wide<T> edge = std::sqrt(gx * gx + gy * gy);
    edges[x] = narrow<T>(edge > max_value ? max_value : edge);
  }
}

// Rows [first, last) of image n.
template <typename T>
void edge_rows(const FlowEdges& args, int64_t n, int64_t first, int64_t last, Wide<T>* scratch) {
  const FlowImages& images = args.images;
  const int64_t height = images.height, width = images.width, line = width + 2;
  const T* u = static_cast<const T*>(images.flow) + image_offset(images, n);
  const T* v = u + images.channel_stride;
  const auto buffer = [&](int64_t y) { return scratch + (y + 3) % 3 * line; };
  // Row y goes into buffer y mod 3; beyond the image, where the edge's row is replicated, into the free buffer.
  const auto fill = [&](int64_t y) {
    const int64_t from = std::clamp<int64_t>(y, 0, height - 1) * images.row_stride;
    magnitude_row<T>(u + from, v + from, width, buffer(y));
  };
  fill(first - 1);
  fill(first);
  const Wide<T> max_value = static_cast<Wide<T>>(args.max_value);
  for (int64_t y = first; y < last; ++y) {
    fill(y + 1);
    edge_row<T>(buffer(y - 1), buffer(y), buffer(y + 1), width, max_value,
                static_cast<T*>(args.edges) + (n * height + y) * width);
  }
}

// From the gradient of one row's edges: tx[x] = P[x-1] - P[x+1] and ty[x] = Q[x-1] + 2 Q[x] + Q[x+1].
template <typename T>
void adjoint_row(const Wide<T>* __restrict above, const Wide<T>* __restrict at, const Wide<T>* __restrict below,
                 const T* __restrict grad, int64_t width, Wide<T> max_value, Wide<T>* __restrict p,
                 Wide<T>* __restrict q, Wide<T>* __restrict tx, Wide<T>* __restrict ty) {
  for (int64_t x = 0; x < width; ++x) {
    const Wide<T> gx = (above[x + 2] - above[x]) + 2 * (at[x + 2] - at[x]) + (below[x + 2] - below[x]);
    const Wide<T> gy = (below[x] - above[x]) + 2 * (below[x + 1] - above[x + 1]) + (below[x + 2] - above[x + 2]);
    const Wide<T> edge = std::sqrt(gx * gx + gy * gy);
    const Wide<T> through = (edge > 0) & (edge <= max_value) ? widen(grad[x]) / edge : Wide<T>{0};
    p[x + 1] = through * gx;
    q[x + 1] = through * gy;
  }
  p[0] = -p[1], p[width + 1] = -p[width];
  q[0] = q[1], q[width + 1] = q[width];
  for (int64_t x = 0; x < width; ++x) {
    tx[x] = p[x] - p[x + 2];
    ty[x] = q[x] + 2 * q[x + 1] + q[x + 2];
  }
}

template <typename T>
void gradient_row(const Wide<T>* __restrict tx, const Wide<T>* __restrict ty, int64_t step, int64_t above, int64_t at,
                  int64_t below, Wide<T> sign_above, Wide<T> sign_below, const T* __restrict u, const T* __restrict v,
                  int64_t width, T* __restrict grad_u, T* __restrict grad_v) {
  for (int64_t x = 0; x < width; ++x) {
    const Wide<T> magnitude_grad = 2 * tx[at * step + x] + (tx[above * step + x] + sign_above * ty[above * step + x]) +
                                   (tx[below * step + x] - sign_below * ty[below * step + x]);
    const Wide<T> a = widen(u[x]), b = widen(v[x]);
    const Wide<T> magnitude = std::sqrt(a * a + b * b);
    const Wide<T> through = magnitude > 0 ? magnitude_grad / magnitude : magnitude_grad * 0;  // NaN stays NaN
    grad_u[x] = narrow<T>(through * a);
    grad_v[x] = narrow<T>(through * b);
  }
}

// The gradient in rows [first, last) of image n.
template <typename T>
void edge_rows_backward(const FlowEdges& args, int64_t n, int64_t first, int64_t last, Wide<T>* scratch) {
  const FlowImages& images = args.images;
  const int64_t height = images.height, width = images.width, line = width + 2;
  const T* u = static_cast<const T*>(images.flow) + image_offset(images, n);
  const T* v = u + images.channel_stride;
  Wide<T>*p = scratch + 3 * line, *q = p + line, *tx = q + line, *ty = tx + 3 * line;
  const auto slot = [](int64_t y) { return (y + 3) % 3; };
  const auto fill = [&](int64_t y) {
    const int64_t from = std::clamp<int64_t>(y, 0, height - 1) * images.row_stride;
    magnitude_row<T>(u + from, v + from, width, scratch + slot(y) * line);
  };
  const Wide<T> max_value = static_cast<Wide<T>>(args.max_value);
  const auto adjoint = [&](int64_t y) {  // magnitudes y - 1 .. y + 1 are there
    adjoint_row<T>(scratch + slot(y - 1) * line, scratch + slot(y) * line, scratch + slot(y + 1) * line,
                   static_cast<const T*>(args.grad_edges) + (n * height + y) * width, width, max_value, p, q,
                   tx + slot(y) * line, ty + slot(y) * line);
  };
  const int64_t begin = std::max<int64_t>(first - 1, 0);
  fill(begin - 1);
  fill(begin);
  for (int64_t y = begin; y <= std::min(last, height - 1); ++y) {
    fill(y + 1);
    adjoint(y);
    // Row y - 1 is complete now; the last row of the image as soon as it has its own adjoint.
    for (const int64_t row : {y - 1, y}) {
      if (row < first || row >= last || (row == y && y < height - 1)) continue;
      const bool top = row == 0, bottom = row == height - 1;
      gradient_row<T>(tx, ty, line, slot(top ? row : row - 1), slot(row), slot(bottom ? row : row + 1),
                      top ? Wide<T>{-1} : Wide<T>{1}, bottom ? Wide<T>{-1} : Wide<T>{1}, u + row * images.row_stride,
                      v + row * images.row_stride, width,
                      static_cast<T*>(args.grad_flow) + (2 * n * height + row) * width,
                      static_cast<T*>(args.grad_flow) + ((2 * n + 1) * height + row) * width);
    }
  }
}
