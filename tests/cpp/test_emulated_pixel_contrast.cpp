// pixel_contrast.cu under the emulator, against the dense formula in double.
#include "check.h"
#include "contrast/pixel_contrast.h"
#include "features.h"

namespace {

using namespace motionops;

struct Case {
  int64_t batch, frames, height, width, dim, negatives;
  bool masks;
  double radius, length;
  float grad_loss = 1.5;
  int64_t more_keys = 0;                                // of other samples
  bool query_of_frames = false, key_of_frames = false;  // masks
  bool on_device = false;                               // the temperature
};

struct Placement {
  double start_y, start_x, step_y, step_x;
  Placement(const double* extent, const Case& c)
      : start_y(extent[2]),
        start_x(extent[4]),
        step_y((extent[3] - extent[2]) / static_cast<double>(c.height)),
        step_x((extent[5] - extent[4]) / static_cast<double>(c.width)) {}
  double diagonal() const { return std::hypot(step_y, step_x); }
};

void run(Dtype dtype, bool tf32, const Case& c) {
  constexpr double kTemperature = 0.1;
  std::mt19937 generator(static_cast<unsigned>(c.batch * 1000 + c.height));
  const int64_t area = c.height * c.width, rows = c.batch * c.frames * area, key_batch = c.batch + c.more_keys;
  const int64_t keys = key_batch * c.frames * area, columns = keys + c.negatives;
  const Features query = random_features(dtype, rows, c.dim, c.length, generator);
  const Features key = random_features(dtype, keys, c.dim, 1, generator);
  const Features negatives = random_features(dtype, c.negatives, c.dim, 1, generator);
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  std::vector<double> query_extent(c.batch * 6), key_extent(key_batch * 6);
  for (auto* extents : {&query_extent, &key_extent}) {
    for (double& value : *extents) value = uniform(generator);
  }
  const auto random_mask = [&](bool of_frames) {
    const int64_t count = c.batch * (of_frames ? c.frames : 1) * area;
    auto mask = std::make_unique<bool[]>(count);
    for (int64_t i = 0; i < count; ++i) mask[i] = uniform(generator) < 0.6;
    return mask;
  };
  const auto query_mask = random_mask(c.query_of_frames), key_mask = random_mask(c.key_of_frames);

  float loss = NAN;
  const float grad_loss = c.grad_loss;
  std::vector<float> log_sum_exp(rows, NAN), log_sum_exp_positives(rows, NAN), weight(rows, NAN),
      difference(rows * c.dim, NAN);
  const PixelContrastPairs pairs{query_extent.data(),
                                 key_extent.data(),
                                 c.masks ? query_mask.get() : nullptr,
                                 c.masks ? key_mask.get() : nullptr,
                                 c.batch,
                                 key_batch,
                                 c.frames,
                                 c.height,
                                 c.width,
                                 c.radius,
                                 c.masks && c.query_of_frames,
                                 c.masks && c.key_of_frames};
  const float in_memory = kTemperature;
  const Temperature temperature(c.on_device ? NAN : kTemperature, c.on_device ? &in_memory : nullptr);
  const PixelContrastForward forward{dtype,
                                     query.data(),
                                     key.data(),
                                     negatives.data(),
                                     pairs,
                                     c.dim,
                                     c.negatives,
                                     temperature,
                                     tf32,
                                     &loss,
                                     log_sum_exp.data(),
                                     log_sum_exp_positives.data(),
                                     weight.data(),
                                     difference.data()};
  std::vector<float> workspace(pixel_contrast_workspace_bytes(forward) / sizeof(float) + 1, NAN);
  CHECK(pixel_contrast_forward_cuda(forward, workspace.data(), nullptr) == cudaSuccess, "forward");
  std::vector<float> grad_query(rows * c.dim, NAN), grad_key(keys * c.dim, NAN);
  const PixelContrastBackward backward{dtype,
                                       query.data(),
                                       key.data(),
                                       pairs,
                                       c.dim,
                                       temperature,
                                       tf32,
                                       &grad_loss,
                                       log_sum_exp.data(),
                                       log_sum_exp_positives.data(),
                                       weight.data(),
                                       difference.data(),
                                       grad_query.data(),
                                       grad_key.data()};
  workspace.assign(pixel_contrast_backward_workspace_bytes(backward) / sizeof(float) + 1, NAN);
  CHECK(pixel_contrast_backward_cuda(backward, workspace.data(), nullptr) == cudaSuccess, "backward");

  std::vector<std::vector<int64_t>> positives(rows);
  std::vector<double> counts(c.batch);
  double samples = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t frame = row / area, b = frame / c.frames, pixel = row % area;
    const Placement of_query(query_extent.data() + 6 * b, c), of_key(key_extent.data() + 6 * b, c);
    if (c.masks && !query_mask[(c.query_of_frames ? frame : b) * area + pixel]) continue;
    for (int64_t other = 0; other < area; ++other) {
      if (c.masks && !key_mask[(c.key_of_frames ? frame : b) * area + other]) continue;
      const double dy = of_query.start_y + (static_cast<double>(pixel / c.width) + 0.5) * of_query.step_y -
                        of_key.start_y - (static_cast<double>(other / c.width) + 0.5) * of_key.step_y;
      const double dx = of_query.start_x + (static_cast<double>(pixel % c.width) + 0.5) * of_query.step_x -
                        of_key.start_x - (static_cast<double>(other % c.width) + 0.5) * of_key.step_x;
      if (std::hypot(dy, dx) / std::max(of_query.diagonal(), of_key.diagonal()) < c.radius) {
        positives[row].push_back(frame * area + other);
      }
    }
    counts[b] += !positives[row].empty();
  }
  for (const double count : counts) samples += count > 0;
  if (std::isinf(grad_loss)) {
    // what does not count has no gradient, whatever that of the loss is
    int64_t checked = 0;
    for (int64_t i = 0; i < rows * c.dim; ++i) {
      if (positives[i / c.dim].empty()) CHECK(grad_query[i] == 0, "row %ld: %g", i / c.dim, grad_query[i]);
      checked += positives[i / c.dim].empty();
      if (samples == 0) CHECK(grad_key[i] == 0, "key %ld: %g", i / c.dim, grad_key[i]);
    }
    CHECK(checked > 0, "every row counts");
    return;
  }

  double total = 0;
  std::vector<double> key_gradient(keys * c.dim);
  RelativeError query_error, key_error;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t b = row / (c.frames * area);
    if (positives[row].empty()) {
      CHECK(weight[row] == 0 && log_sum_exp[row] == 0 && log_sum_exp_positives[row] == 0, "row %ld does not count",
            row);
      for (int64_t d = 0; d < c.dim; ++d) CHECK(grad_query[row * c.dim + d] == 0, "row %ld does not count", row);
      continue;
    }
    const auto column = [&](int64_t n) { return n < keys ? key.row(n) : negatives.row(n - keys); };
    double sum = 0, sum_positives = 0;
    std::vector<double> all(columns), near(columns);
    for (int64_t n = 0; n < columns; ++n)
      sum += all[n] = std::exp(dot(query.row(row), column(n), c.dim) / kTemperature);
    for (const int64_t n : positives[row]) sum_positives += near[n] = all[n];
    const double share = 1 / (samples * counts[b]);
    total += share * (std::log(sum) - std::log(sum_positives));
    CHECK(close_to(log_sum_exp[row], std::log(sum), scalar_tolerance(tf32)), "row %ld: %g for %g", row,
          log_sum_exp[row], std::log(sum));
    CHECK(close_to(log_sum_exp_positives[row], std::log(sum_positives), scalar_tolerance(tf32) * 4),
          "row %ld: %g for %g", row, log_sum_exp_positives[row], std::log(sum_positives));
    CHECK(close_to(weight[row], share, 1e-6 * share), "row %ld: %g for %g", row, weight[row], share);
    std::vector<double> gradient(c.dim);
    for (int64_t n = 0; n < columns; ++n) {
      const double coefficient = grad_loss * share / kTemperature * (all[n] / sum - near[n] / sum_positives);
      for (int64_t d = 0; d < c.dim; ++d) {
        gradient[d] += coefficient * column(n)[d];
        if (n < keys) key_gradient[n * c.dim + d] += coefficient * query.row(row)[d];
      }
    }
    for (int64_t d = 0; d < c.dim; ++d) query_error.add(grad_query[row * c.dim + d], gradient[d]);
  }
  for (int64_t i = 0; i < keys * c.dim; ++i) key_error.add(grad_key[i], key_gradient[i]);
  CHECK(close_to(loss, total, scalar_tolerance(tf32)), "loss %g for %g", loss, total);
  CHECK(query_error.value() < vector_tolerance(dtype, tf32), "grad_query %g", query_error.value());
  CHECK(key_error.value() < vector_tolerance(dtype, tf32), "grad_key %g", key_error.value());
}

}  // namespace

int main(int argc, char**) {
  const bool few = argc > 1;  // under a sanitizer, where every CUDA thread is a host thread
  // more listed rows than a block of them, which a worker goes beyond; more pixels in a frame than bits in a word
  std::vector<Case> cases{{1, 2, 6, 6, 16, 30, false, 2.0, 1},
                          {2, 1, 2, 2, 16, 70, true, 2.0, 1},
                          {2, 1, 2, 2, 8, 0, true, 2.0, 1, INFINITY},
                          {1, 1, 2, 2, 8, 0, true, 1e-9, 1, INFINITY}};
  if (!few) {
    cases.push_back({2, 1, 3, 4, 16, 5, true, 2.0, 1});
    cases.push_back({2, 2, 17, 17, 16, 5, true, 1.2, 1});
    cases.push_back({2, 2, 7, 7, 128, 40, true, 0.7, 1});
    cases.push_back({2, 2, 7, 7, 128, 40, true, 1.7, 3});
    cases.push_back({1, 3, 5, 9, 70, 0, false, 3.0, 1});
    cases.push_back({3, 1, 4, 4, 260, 100, true, 5.0, 1});
    cases.push_back({2, 1, 4, 4, 8, 3, true, 1e-9, 1});
    cases.push_back({1, 1, 1, 1, 3, 0, false, 100.0, 1});
    cases.push_back({0, 2, 4, 4, 8, 3, true, 1.0, 1, 1.5, 2});
    cases.push_back({2, 3, 5, 4, 24, 9, true, 2.0, 1, 1.5, 3, true, false, true});
    cases.push_back({2, 3, 5, 7, 24, 0, true, 2.0, 1, 1.5, 0, false, true});
    cases.push_back({1, 2, 7, 7, 128, 5, true, 1.2, 1, 1.5, 1, true, true, true});
  }
  for (const Case& c : cases) {
    run(Dtype::kBFloat16, false, c);
    if (few && &c != &cases[1]) continue;  // the other types go the same way through tiles and blocks
    run(Dtype::kFloat32, false, c);
    run(Dtype::kFloat32, true, c);
    if (!few) run(Dtype::kFloat16, false, c);  // the same code as bfloat16
  }
  return finish("emulated pixel_contrast");
}
