// queue_infonce.cu under the emulator, against the dense formula in double.
#include "check.h"
#include "contrast/queue_infonce.h"
#include "features.h"

namespace {

using namespace motionops;

struct Case {
  int64_t rows, queue, extra, dim;
  bool ids, expected;
  int multiprocessors = 3;
  bool little_memory = false;  // the shared memory of sm_86, 89 and 120
};

void run(Dtype dtype, bool tf32, const Case& c) {
  constexpr double kTemperature = 0.1;
  motionops_emulated_multiprocessors = c.multiprocessors;
  emulator::current_device = c.little_memory ? 1 : 0;
  emulator::shared_bytes_of_a_block = c.little_memory ? 99 * 1024 : 227 * 1024;
  std::mt19937 generator(static_cast<unsigned>(c.rows * 1000 + c.queue));
  const Features query = random_features(dtype, c.rows, c.dim, 1, generator);
  const Features key = random_features(dtype, c.rows, c.dim, 1, generator);
  const Features queue = random_features(dtype, c.queue, c.dim, 1, generator);
  const Features extra = random_features(dtype, c.extra, c.dim, 1, generator);
  std::vector<int64_t> query_ids(c.rows), queue_ids(c.queue);
  for (auto& id : query_ids) id = generator() % 4;
  for (auto& id : queue_ids) id = generator() % 4;

  float loss = NAN, grad_loss = 1;
  std::vector<int32_t> rank(c.rows, -1);
  std::vector<float> positive(c.rows, NAN), log_sum_exp(c.rows, NAN), expected(c.rows * c.dim, NAN);
  QueueInfonceForward forward{dtype,
                              query.data(),
                              key.data(),
                              queue.data(),
                              extra.data(),
                              c.ids ? query_ids.data() : nullptr,
                              c.ids ? queue_ids.data() : nullptr,
                              c.rows,
                              c.dim,
                              c.queue,
                              c.extra,
                              kTemperature,
                              tf32,
                              &loss,
                              rank.data(),
                              positive.data(),
                              log_sum_exp.data(),
                              c.expected ? expected.data() : nullptr};
  std::vector<float> workspace(queue_infonce_workspace_bytes(forward) / sizeof(float) + 1, NAN);
  CHECK(queue_infonce_forward_cuda(forward, workspace.data(), nullptr) == cudaSuccess, "forward");

  std::vector<float> grad_query(c.rows * c.dim, NAN), grad_key(c.rows * c.dim, NAN);
  const QueueInfonceBackward backward{dtype,
                                      query.data(),
                                      key.data(),
                                      &grad_loss,
                                      positive.data(),
                                      log_sum_exp.data(),
                                      c.expected ? expected.data() : nullptr,
                                      c.rows,
                                      c.dim,
                                      kTemperature,
                                      c.expected ? grad_query.data() : nullptr,
                                      grad_key.data()};
  CHECK(queue_infonce_backward_cuda(backward, nullptr) == cudaSuccess, "backward");

  double mean = 0;
  int64_t wrong_ranks = 0;
  RelativeError query_error, key_error, expected_error;
  for (int64_t i = 0; i < c.rows; ++i) {
    const double own = dot(query.row(i), key.row(i), c.dim) / kTemperature;
    double sum = std::exp(own);
    int above = 0;
    std::vector<double> total(c.dim);
    for (int64_t d = 0; d < c.dim; ++d) total[d] = sum * key.row(i)[d];
    const auto add = [&](const double* row) {
      const double logit = dot(query.row(i), row, c.dim) / kTemperature;
      sum += std::exp(logit);
      above += logit > own;
      for (int64_t d = 0; d < c.dim; ++d) total[d] += std::exp(logit) * row[d];
    };
    for (int64_t j = 0; j < c.queue; ++j) {
      if (!c.ids || query_ids[i] != queue_ids[j]) add(queue.row(j));
    }
    for (int64_t j = 0; j < c.extra; ++j) add(extra.row(j));
    mean += (std::log(sum) - own) / static_cast<double>(c.rows);
    wrong_ranks += std::abs(above - rank[i]);
    CHECK(close_to(positive[i], own, scalar_tolerance(tf32) * 10), "row %ld: %g for %g", i, positive[i], own);
    CHECK(close_to(log_sum_exp[i], std::log(sum), scalar_tolerance(tf32)), "row %ld: %g for %g", i, log_sum_exp[i],
          std::log(sum));
    const double scale = 1 / (static_cast<double>(c.rows) * kTemperature), share = std::exp(own) / sum;
    for (int64_t d = 0; d < c.dim; ++d) {
      expected_error.add(expected[i * c.dim + d], total[d] / sum);
      query_error.add(grad_query[i * c.dim + d], scale * (total[d] / sum - key.row(i)[d]));
      key_error.add(grad_key[i * c.dim + d], scale * (share - 1) * query.row(i)[d]);
    }
  }
  if (c.rows == 0) mean = 0;
  CHECK(close_to(loss, mean, scalar_tolerance(tf32)), "loss %g for %g", loss, mean);
  CHECK(wrong_ranks <= (tf32 ? c.rows / 8 + 1 : 0), "%ld ranks off", wrong_ranks);
  if (c.queue + c.extra == 0) return;  // gradients are zero
  CHECK(key_error.value() < (tf32 ? 1e-2 : 1e-5), "grad_key %g", key_error.value());
  if (!c.expected) return;
  CHECK(expected_error.value() < vector_tolerance(dtype, tf32), "expected %g", expected_error.value());
  CHECK(query_error.value() < vector_tolerance(dtype, tf32), "grad_query %g", query_error.value());
}

// A number of rows that would be 1 if it were cut to 32 bits.
void check_too_many_rows() {
  const float value = 1;
  float gradient = NAN;
  const int64_t rows = (int64_t{1} << 32) + 1;
  const QueueInfonceBackward args{Dtype::kFloat32, &value, &value, &value, &value,    &value,
                                  &value,          rows,   1,      1,      &gradient, nullptr};
  CHECK(queue_infonce_backward_cuda(args, nullptr) == cudaErrorInvalidConfiguration, "grad_query is %g", gradient);
}

}  // namespace

int main(int argc, char**) {
  const bool few = argc > 1;  // under a sanitizer, where every CUDA thread is a host thread
  // A worker that goes from one row block to the next; one whose tiles pass through their buffers more than once; features
  // in several chunks; the same two where float32 has one buffer.
  std::vector<Case> cases{{70, 130, 7, 16, true, true},
                          {5, 330, 3, 16, true, true, 1},
                          {3, 70, 0, 136, false, true},
                          {70, 130, 7, 16, true, true, 1, true}};
  if (!few) {
    cases.push_back({0, 10, 0, 8, false, true});
    cases.push_back({3, 0, 0, 5, false, true});
    cases.push_back({1, 1, 0, 1, false, true});
    cases.push_back({70, 300, 65, 128, true, true});
    cases.push_back({64, 700, 0, 128, false, true});
    cases.push_back({64, 700, 0, 128, false, true, 2, true});
    cases.push_back({130, 257, 3, 200, true, true});
    cases.push_back({9, 100, 0, 17, false, false});
    cases.push_back({9, 100, 0, 300, false, false});
  }
  check_too_many_rows();
  for (const Case& c : cases) {
    run(Dtype::kBFloat16, false, c);
    run(Dtype::kFloat32, false, c);
    if (few && &c != &cases[0]) continue;  // the other types go the same way through tiles and blocks
    run(Dtype::kFloat32, true, c);
    if (!few) run(Dtype::kFloat16, false, c);  // the same code as bfloat16
  }
  return finish("emulated queue_infonce");
}
