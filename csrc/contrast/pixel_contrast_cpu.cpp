// pixel_contrast on the CPU: two runs of the streaming softmax. All columns for the query pixels that have positives; and
// for every frame, its own foreground keys under the policy that only near ones count.
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "contrast/pixel_contrast.h"
#include "contrast/stored_features_cpu.h"
#include "contrast/streaming_softmax_cpu.h"
#include "geometry/extent.h"

namespace motionops {
namespace {

// Where the pixels of one sample's view lie in its source frame.
class Placement {
 public:
  Placement(const double* extent, int64_t height, int64_t width)
      : width_(width),
        step_y_((extent[3] - extent[2]) / static_cast<double>(height)),
        step_x_((extent[5] - extent[4]) / static_cast<double>(width)),
        start_y_(extent[2]),
        start_x_(extent[4]) {}
  double diagonal() const { return std::sqrt(rounded_product(step_y_, step_y_) + rounded_product(step_x_, step_x_)); }
  double centre_y(int64_t pixel) const {
    return rounded_product(static_cast<double>(pixel / width_) + 0.5, step_y_) + start_y_;
  }
  double centre_x(int64_t pixel) const {
    return rounded_product(static_cast<double>(pixel % width_) + 0.5, step_x_) + start_x_;
  }

 private:
  int64_t width_;
  double step_y_;
  double step_x_;
  double start_y_;
  double start_x_;
};

// One foreground pixel: its place in the frame and in the source.
struct Pixel {
  int64_t index;
  double y;
  double x;
};

// The foreground of a set of frames.
struct FrameSet {
  std::vector<Pixel> queries;  // those with at least one positive
  std::vector<Pixel> keys;
  double diagonal = 0;
  double radius = 0;

  bool near(const Pixel& query, const Pixel& key) const {
    const double dy = query.y - key.y;
    const double dx = query.x - key.x;
    return std::sqrt(rounded_product(dy, dy) + rounded_product(dx, dx)) / diagonal < radius;
  }
};

std::vector<Pixel> foreground(const double* extent, const bool* mask, int64_t height, int64_t width) {
  const Placement placement(extent, height, width);
  std::vector<Pixel> pixels;
  for (int64_t pixel = 0; pixel < height * width; ++pixel) {
    if (mask != nullptr && !mask[pixel]) continue;
    pixels.push_back({pixel, placement.centre_y(pixel), placement.centre_x(pixel)});
  }
  return pixels;
}

std::vector<FrameSet> find_sets(const PixelContrastPairs& pairs, const Parallel& parallel) {
  const int64_t area = pairs.area();
  if (pairs.frames == 0) return {};
  const int64_t sets_of_sample = pairs.frames / pairs.frames_of_set();
  std::vector<FrameSet> sets(pairs.batch * sets_of_sample);
  if (area == 0) return sets;
  parallel.run(0, static_cast<int64_t>(sets.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t place = begin; place < end; ++place) {
      FrameSet& set = sets[place];
      const int64_t b = place / sets_of_sample;
      const auto mask_of = [&](const bool* mask, bool of_frames) {
        return mask == nullptr ? nullptr : mask + (of_frames ? place : b) * area;
      };
      const double* query_extent = pairs.query_extent + b * 6;
      const double* key_extent = pairs.key_extent + b * 6;
      const double of_query = Placement(query_extent, pairs.height, pairs.width).diagonal();
      const double of_key = Placement(key_extent, pairs.height, pairs.width).diagonal();
      // A NaN in either extent must stay: it is near nothing.
      set.diagonal = of_key > of_query || std::isnan(of_key) ? of_key : of_query;
      set.radius = pairs.radius;
      set.keys = foreground(key_extent, mask_of(pairs.key_mask, pairs.key_mask_of_frames), pairs.height, pairs.width);
      for (const Pixel& query :
           foreground(query_extent, mask_of(pairs.query_mask, pairs.query_mask_of_frames), pairs.height, pairs.width)) {
        for (const Pixel& key : set.keys) {
          if (set.near(query, key)) {
            set.queries.push_back(query);
            break;
          }
        }
      }
      // Keys of a set without positives are read by nobody.
      if (set.queries.empty()) set.keys.clear();
    }
  });
  return sets;
}

std::vector<int64_t> indices(const std::vector<Pixel>& pixels) {
  std::vector<int64_t> result;
  result.reserve(pixels.size());
  for (const Pixel& pixel : pixels) result.push_back(pixel.index);
  return result;
}

// Rows that have positives, numbered through all frames, in order: those of frame (b, t) are a contiguous part of `index`.
struct Rows {
  std::vector<int64_t> index;  // place in [B, T, H, W]
  std::vector<int64_t> begin;  // [B · T + 1] first row of each frame
  std::vector<double> weight;  // [rows]
};

Rows number_rows(const PixelContrastPairs& pairs, const std::vector<FrameSet>& sets) {
  Rows rows;
  rows.begin.push_back(0);
  double counted_samples = 0;
  for (int64_t b = 0, frame = 0; b < pairs.batch; ++b) {
    const size_t first = rows.index.size();
    for (int64_t t = 0; t < pairs.frames; ++t, ++frame) {
      for (const Pixel& query : sets[frame / pairs.frames_of_set()].queries) {
        rows.index.push_back(frame * pairs.area() + query.index);
      }
      rows.begin.push_back(static_cast<int64_t>(rows.index.size()));
    }
    const size_t count = rows.index.size() - first;
    rows.weight.resize(rows.index.size(), 1 / static_cast<double>(count));
    counted_samples += count > 0 ? 1 : 0;
  }
  for (double& weight : rows.weight) weight /= counted_samples;
  return rows;
}

// Logits of query pixels against key pixels of one frame: only near ones count. Transposed: rows are the keys.
template <typename T, bool kTransposed>
class NearPixels final : public ColumnPolicy<T> {
 public:
  explicit NearPixels(const FrameSet& set) : set_(set) {}

  void exclude(const LogitTile<T>& tile) const override {
    for (int64_t j = 0; j < tile.columns; ++j) {
      for (int64_t r = 0; r < tile.rows; ++r) {
        const int64_t row = tile.row_begin + r;
        const int64_t column = tile.column_begin + j;
        const Pixel& query = set_.queries[kTransposed ? column : row];
        const Pixel& key = set_.keys[kTransposed ? row : column];
        if (!set_.near(query, key)) {
          tile.logits[j * tile.stride + r] = -std::numeric_limits<T>::infinity();
        }
      }
    }
  }

 private:
  const FrameSet& set_;
};

int64_t element_size(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat64:
      return 8;
    case Dtype::kFloat32:
      return 4;
    default:
      return 2;
  }
}

const void* frame_features(const void* features, Dtype dtype, int64_t element) {
  return static_cast<const char*>(features) + element * element_size(dtype);
}

// What a run of the streaming softmax finds out about the rows.
template <typename T>
struct Statistics {
  Statistics(int64_t rows, int64_t features) : maximum(rows), log_sum(rows), expected(features) {}

  // The results of `problem`, whose first row is row `first` here, go here.
  void collect(StreamingSoftmax<T>& problem, int64_t first) {
    problem.maximum = maximum.data() + first;
    problem.log_sum = log_sum.data() + first;
    problem.expected = expected.empty() ? nullptr : expected.data() + first * problem.dim;
  }

  std::vector<T> maximum;
  std::vector<T> log_sum;
  std::vector<T> expected;  // [rows, D], or empty: not wanted
};

template <typename T>
void forward(const PixelContrastForward& args, const Parallel& parallel) {
  const PixelContrastPairs& pairs = args.pairs;
  const int64_t area = pairs.area(), pixels = pairs.rows(), key_pixels = pairs.columns();
  T* log_sum_exp = static_cast<T*>(args.log_sum_exp);
  T* log_sum_exp_positives = static_cast<T*>(args.log_sum_exp_positives);
  T* weight = static_cast<T*>(args.weight);
  T* difference = static_cast<T*>(args.expected_difference);
  std::fill_n(log_sum_exp, pixels, T(0));
  std::fill_n(log_sum_exp_positives, pixels, T(0));
  std::fill_n(weight, pixels, T(0));
  if (difference != nullptr) std::fill_n(difference, pixels * args.dim, T(0));

  const std::vector<FrameSet> sets = find_sets(pairs, parallel);
  const Rows rows = number_rows(pairs, sets);
  const int64_t count = static_cast<int64_t>(rows.index.size());
  const int64_t features = difference == nullptr ? 0 : count * args.dim;
  Statistics<T> all(count, features);
  Statistics<T> positives(count, features);

  const ProductFeatures<T> query(args.query, args.types.query, pixels * args.dim, args.dtype, parallel);
  const ProductFeatures<T> key(args.key, args.types.key, key_pixels * args.dim, args.dtype, parallel);
  const std::array<FeatureRows, 2> columns = {key.rows(key_pixels),
                                              FeatureRows{args.negatives, args.dtype, args.negative_rows, nullptr}};
  StreamingSoftmax<T> problem;
  problem.rows = query.rows(count, rows.index.data());
  problem.columns = columns;
  problem.dim = args.dim;
  problem.scale = static_cast<T>(1.0 / args.temperature.value);
  all.collect(problem, 0);
  streaming_softmax(problem, parallel);

  parallel.run(0, pairs.batch * pairs.frames, 1, [&](int64_t begin, int64_t end) {
    for (int64_t frame = begin; frame < end; ++frame) {
      const FrameSet& set = sets[frame / pairs.frames_of_set()];
      const int64_t first = rows.begin[frame];
      const std::vector<int64_t> keys = indices(set.keys);
      const std::array<FeatureRows, 1> own = {
          FeatureRows{frame_features(key.data(), key.dtype(), frame * area * args.dim), key.dtype(),
                      static_cast<int64_t>(keys.size()), keys.data()}};
      const NearPixels<T, false> policy(set);
      StreamingSoftmax<T> part = problem;
      part.rows = query.rows(rows.begin[frame + 1] - first, rows.index.data() + first);
      part.columns = own;
      part.policy = &policy;
      positives.collect(part, first);
      streaming_softmax(part, SerialParallel());
    }
  });

  double loss = 0;
  for (int64_t row = 0; row < count; ++row) {
    const int64_t pixel = rows.index[row];
    loss += rows.weight[row] * static_cast<double>((all.maximum[row] - positives.maximum[row]) +
                                                   (all.log_sum[row] - positives.log_sum[row]));
    log_sum_exp[pixel] = all.maximum[row] + all.log_sum[row];
    log_sum_exp_positives[pixel] = positives.maximum[row] + positives.log_sum[row];
    weight[pixel] = static_cast<T>(rows.weight[row]);
    if (difference == nullptr) continue;
    for (int64_t d = 0; d < args.dim; ++d) {
      difference[pixel * args.dim + d] = all.expected[row * args.dim + d] - positives.expected[row * args.dim + d];
    }
  }
  *static_cast<T*>(args.loss) = static_cast<T>(loss);
}

template <typename T>
void grad_query(const PixelContrastBackward& args, T scale, const Parallel& parallel) {
  const PixelContrastPairs& pairs = args.pairs;
  const int64_t pixels = pairs.rows();
  const T* weight = static_cast<const T*>(args.weight);
  const T* difference = static_cast<const T*>(args.expected_difference);
  StoredGradient<T> stored(args.grad_query, args.types.grad_query, pixels * args.dim);
  T* gradient = stored.sums();
  parallel.run(0, pixels, 64, [&](int64_t begin, int64_t end) {
    for (int64_t pixel = begin; pixel < end; ++pixel) {
      const T factor = scale * weight[pixel];
      for (int64_t d = 0; d < args.dim; ++d) {
        // A row with no positive has exactly no gradient, whatever the gradient of the loss is.
        gradient[pixel * args.dim + d] = weight[pixel] == 0 ? T(0) : factor * difference[pixel * args.dim + d];
      }
    }
  });
  stored.store(parallel);
}

template <typename T>
void grad_key(const PixelContrastBackward& args, T grad_loss, const Parallel& parallel) {
  const PixelContrastPairs& pairs = args.pairs;
  const int64_t area = pairs.area(), pixels = pairs.rows(), key_pixels = pairs.columns();
  StoredGradient<T> stored(args.grad_key, args.types.grad_key, key_pixels * args.dim);
  T* gradient = stored.sums();
  std::fill_n(gradient, key_pixels * args.dim, T(0));

  const std::vector<FrameSet> sets = find_sets(pairs, parallel);
  const Rows rows = number_rows(pairs, sets);
  const int64_t count = static_cast<int64_t>(rows.index.size());
  std::vector<T> all(count);
  std::vector<T> positives(count);
  std::vector<T> weight(count);
  for (int64_t row = 0; row < count; ++row) {
    all[row] = static_cast<const T*>(args.log_sum_exp)[rows.index[row]];
    positives[row] = static_cast<const T*>(args.log_sum_exp_positives)[rows.index[row]];
    weight[row] = grad_loss * static_cast<const T*>(args.weight)[rows.index[row]];
  }

  StreamingGradient<T> problem;
  const ProductFeatures<T> query(args.query, args.types.query, pixels * args.dim, args.dtype, parallel);
  const ProductFeatures<T> key(args.key, args.types.key, key_pixels * args.dim, args.dtype, parallel);
  problem.rows = key.rows(key_pixels);
  problem.columns = query.rows(count, rows.index.data());
  problem.dim = args.dim;
  problem.scale = static_cast<T>(1.0 / args.temperature.value);
  problem.log_sum_exp = all.data();
  problem.weight = weight.data();
  problem.gradient = gradient;
  streaming_gradient(problem, parallel);

  parallel.run(0, pairs.batch * pairs.frames, 1, [&](int64_t begin, int64_t end) {
    for (int64_t frame = begin; frame < end; ++frame) {
      const FrameSet& set = sets[frame / pairs.frames_of_set()];
      const int64_t first = rows.begin[frame];
      const int64_t offset = frame * area * args.dim;
      const std::vector<int64_t> keys = indices(set.keys);
      const NearPixels<T, true> policy(set);
      StreamingGradient<T> part = problem;
      part.rows = {frame_features(key.data(), key.dtype(), offset), key.dtype(), static_cast<int64_t>(keys.size()),
                   keys.data()};
      part.columns = query.rows(rows.begin[frame + 1] - first, rows.index.data() + first);
      part.policy = &policy;
      part.log_sum_exp = positives.data() + first;
      part.weight = weight.data() + first;
      part.sign = -1;
      part.gradient = gradient + offset;
      streaming_gradient(part, SerialParallel());
    }
  });
  stored.store(parallel);
}

template <typename T>
void backward(const PixelContrastBackward& args, const Parallel& parallel) {
  const T grad_loss = stored_scalar<T>(args.grad_loss, args.types.grad_loss);
  if (args.grad_query != nullptr) {
    grad_query<T>(args, static_cast<T>(grad_loss / args.temperature.value), parallel);
  }
  if (args.grad_key != nullptr) grad_key<T>(args, grad_loss, parallel);
}

}  // namespace

void pixel_contrast_forward_cpu(const PixelContrastForward& args, const Parallel& parallel) {
  if (args.dtype == Dtype::kFloat64) {
    forward<double>(args, parallel);
  } else {
    forward<float>(args, parallel);
  }
}

void pixel_contrast_backward_cpu(const PixelContrastBackward& args, const Parallel& parallel) {
  if (args.dtype == Dtype::kFloat64) {
    backward<double>(args, parallel);
  } else {
    backward<float>(args, parallel);
  }
}

}  // namespace motionops
