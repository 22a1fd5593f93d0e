// Rows of motion_map, compiled once for each SIMD target: included by motion_map_cpu.cpp through core/simd_targets.inl. The
// loops have no branch inside, so that the compiler vectorises them; the two pixels at the ends of a row are done apart.

template <typename T>
struct FlowRow {
  const T *above, *at, *below;  // rows y - 1, y, y + 1 of u or of v, replicated at the edges
};

// Twice the two slopes of u or v at x, between columns `left` and `right`.
template <typename T>
inline Wide<T> slope_x(const FlowRow<T>& row, int64_t left, int64_t right) {
  return widen(row.at[right]) - widen(row.at[left]);
}
template <typename T>
inline Wide<T> slope_y(const FlowRow<T>& row, int64_t x) {
  return widen(row.below[x]) - widen(row.above[x]);
}

template <typename T>
inline Wide<T> map_value(const FlowRow<T>& u, const FlowRow<T>& v, int64_t left, int64_t x, int64_t right) {
  const Wide<T> ux = slope_x(u, left, right), uy = slope_y(u, x), vx = slope_x(v, left, right), vy = slope_y(v, x);
  return std::sqrt(ux * ux + uy * uy + vx * vx + vy * vy) / 2;
}

template <typename T>
FlowRow<T> flow_row(const T* plane, int64_t y, const FlowImages& images) {
  return {plane + (y > 0 ? y - 1 : 0) * images.row_stride, plane + y * images.row_stride,
          plane + (y + 1 < images.height ? y + 1 : y) * images.row_stride};
}

// One row of the map; Out is T, or Wide<T> where means are taken of it.
template <typename T, typename Out>
void map_row(const FlowRow<T>& u, const FlowRow<T>& v, int64_t width, Out* __restrict map) {
  const T* __restrict u0 = u.above, * __restrict u1 = u.at, * __restrict u2 = u.below;
  const T* __restrict v0 = v.above, * __restrict v1 = v.at, * __restrict v2 = v.below;
  for (int64_t x = 1; x < width - 1; ++x) {
    const Wide<T> ux = widen(u1[x + 1]) - widen(u1[x - 1]), uy = widen(u2[x]) - widen(u0[x]);
    const Wide<T> vx = widen(v1[x + 1]) - widen(v1[x - 1]), vy = widen(v2[x]) - widen(v0[x]);
    map[x] = narrow<Out>(std::sqrt(ux * ux + uy * uy + vx * vx + vy * vy) / 2);
  }
  map[0] = narrow<Out>(map_value(u, v, 0, 0, width > 1 ? 1 : 0));
  if (width > 1) map[width - 1] = narrow<Out>(map_value(u, v, width - 2, width - 1, width - 1));
}

// Rows [first, last) of image n.
template <typename T>
void map_rows(const MotionMap& args, int64_t n, int64_t first, int64_t last) {
  const FlowImages& images = args.images;
  const T* u = static_cast<const T*>(images.flow) + image_offset(images, n);
  const T* v = u + images.channel_stride;
  for (int64_t y = first; y < last; ++y) {
    map_row(flow_row(u, y, images), flow_row(v, y, images), images.width,
            static_cast<T*>(args.map) + (n * images.height + y) * images.width);
  }
}

// One row of blocks: all columns of the grid's cell row `row` of the block of frames `step` of video b. `line` holds W values,
// `sums` one a column of the grid.
template <typename T>
void map_block_row(const MotionMap& args, int64_t b, int64_t step, int64_t row, Wide<T>* line, double* sums) {
  const FlowImages& images = args.images;
  const int64_t columns = images.width / args.block_columns;
  std::fill_n(sums, columns, 0.0);
  for (int64_t t = step * args.block_frames; t < (step + 1) * args.block_frames; ++t) {
    const T* u = static_cast<const T*>(images.flow) + image_offset(images, b * images.frames + t);
    const T* v = u + images.channel_stride;
    for (int64_t y = row * args.block_rows; y < (row + 1) * args.block_rows; ++y) {
      map_row(flow_row(u, y, images), flow_row(v, y, images), images.width, line);
      for (int64_t column = 0; column < columns; ++column) {
        // Eight sums beside one another: the order is fixed, and the compiler may add them as a vector.
        constexpr int64_t kSums = 8;
        const Wide<T>* from = line + column * args.block_columns;
        double lanes[kSums] = {};
        int64_t x = 0;
        for (; x + kSums <= args.block_columns; x += kSums) {
          for (int64_t i = 0; i < kSums; ++i) lanes[i] += from[x + i];
        }
        for (int64_t i = 0; x < args.block_columns; ++x, ++i) lanes[i] += from[x];
        for (int64_t i = 0; i < kSums; ++i) sums[column] += lanes[i];
      }
    }
  }
  const double size = static_cast<double>(args.block_frames * args.block_rows * args.block_columns);
  const int64_t steps = images.frames / args.block_frames, rows = images.height / args.block_rows;
  T* map = static_cast<T*>(args.map) + ((b * steps + step) * rows + row) * columns;
  for (int64_t column = 0; column < columns; ++column) {
    map[column] = narrow<T>(static_cast<Wide<T>>(sums[column] / size));
  }
}

// P of row y, for u and v along both axes: p[0 .. W + 1] and so on, from the gradient of the map in that row.
template <typename T>
void slope_gradient_row(const FlowRow<T>& u, const FlowRow<T>& v, int64_t width, const Wide<T>* __restrict grad,
                        Wide<T>* __restrict ux, Wide<T>* __restrict uy, Wide<T>* __restrict vx,
                        Wide<T>* __restrict vy) {
  const auto at = [&](int64_t left, int64_t x, int64_t right) {
    const Wide<T> a = slope_x(u, left, right), b = slope_y(u, x), c = slope_x(v, left, right), d = slope_y(v, x);
    // Slopes and map are both twice theirs; a quarter is that of the two halves that the adjoint still needs.
    const Wide<T> twice = std::sqrt(a * a + b * b + c * c + d * d);
    const Wide<T> through = twice > 0 ? grad[x] / (2 * twice) : Wide<T>{0};
    ux[x + 1] = through * a, uy[x + 1] = through * b, vx[x + 1] = through * c, vy[x + 1] = through * d;
  };
  for (int64_t x = 1; x < width - 1; ++x) at(x - 1, x, x + 1);
  at(0, 0, width > 1 ? 1 : 0);
  if (width > 1) at(width - 2, width - 1, width - 1);
  ux[0] = -ux[1], ux[width + 1] = -ux[width];
  vx[0] = -vx[1], vx[width + 1] = -vx[width];
}

// The gradient in rows [first, last) of image n; `scratch` holds 13 lines of W + 2.
template <typename T>
void map_rows_backward(const MotionMap& args, int64_t n, int64_t first, int64_t last, Wide<T>* scratch) {
  const FlowImages& images = args.images;
  const int64_t height = images.height, width = images.width, line = width + 2;
  const T* u = static_cast<const T*>(images.flow) + image_offset(images, n);
  const T* v = u + images.channel_stride;
  Wide<T>* grad = scratch + 12 * line;
  const auto slot = [&](int64_t y, int64_t which) { return scratch + ((y + 3) % 3 * 4 + which) * line; };
  const int64_t columns = width / args.block_columns, rows = height / args.block_rows;
  const int64_t steps = images.frames / args.block_frames;
  const Wide<T> size = static_cast<Wide<T>>(args.block_frames * args.block_rows * args.block_columns);
  const auto fill = [&](int64_t y) {
    const int64_t b = n / images.frames, step = n % images.frames / args.block_frames;
    const T* from = static_cast<const T*>(args.grad_map) + ((b * steps + step) * rows + y / args.block_rows) * columns;
    if (args.block_columns == 1) {
      for (int64_t x = 0; x < width; ++x) grad[x] = widen(from[x]) / size;
    } else {
      for (int64_t column = 0; column < columns; ++column) {
        std::fill_n(grad + column * args.block_columns, args.block_columns, widen(from[column]) / size);
      }
    }
    slope_gradient_row<T>(flow_row(u, y, images), flow_row(v, y, images), width, grad, slot(y, 0), slot(y, 1),
                          slot(y, 2), slot(y, 3));
  };
  if (first > 0) fill(first - 1);
  fill(first);
  for (int64_t y = first; y < last; ++y) {
    if (y + 1 < height) fill(y + 1);
    // Antisymmetric beyond the edges.
    const Wide<T> sign_above = y > 0 ? Wide<T>{1} : Wide<T>{-1}, sign_below = y + 1 < height ? Wide<T>{1} : Wide<T>{-1};
    const int64_t above = y > 0 ? y - 1 : y, below = y + 1 < height ? y + 1 : y;
    for (const int64_t channel : {0, 1}) {
      const Wide<T>* __restrict px = slot(y, 2 * channel);
      const Wide<T>* __restrict py_above = slot(above, 2 * channel + 1) + 1;
      const Wide<T>* __restrict py_below = slot(below, 2 * channel + 1) + 1;
      T* __restrict to = static_cast<T*>(args.grad_flow) + ((2 * n + channel) * height + y) * width;
      for (int64_t x = 0; x < width; ++x) {
        to[x] = narrow<T>((px[x] - px[x + 2]) + (sign_above * py_above[x] - sign_below * py_below[x]));
      }
    }
  }
}
