// Gives queue_infonce.cu an output that is one element too short; AddressSanitizer must stop it. With an argument the
// output is long enough, and what is too short is what the build makes so (MOTIONOPS_TEST_SHARED_BYTES_MISSING).
#include "contrast/queue_infonce.h"
#include "features.h"

int main(int argc, char**) {
  using namespace motionops;
  constexpr int64_t kRows = 2, kDim = 16, kQueue = 130;
  std::mt19937 generator(0);
  const Features query = random_features(Dtype::kBFloat16, kRows, kDim, 1, generator);
  const Features key = random_features(Dtype::kBFloat16, kRows, kDim, 1, generator);
  const Features queue = random_features(Dtype::kBFloat16, kQueue, kDim, 1, generator);
  const std::vector<int64_t> query_ids(kRows, 1), queue_ids(kQueue, 2);
  float loss = 0;
  std::vector<int32_t> rank(kRows);
  std::vector<float> positive(kRows), log_sum_exp(kRows);
  const auto expected = std::make_unique<float[]>(kRows * kDim - (argc > 1 ? 0 : 1));
  const QueueInfonceForward forward{Dtype::kBFloat16,
                                    query.data(),
                                    key.data(),
                                    queue.data(),
                                    nullptr,
                                    query_ids.data(),
                                    queue_ids.data(),
                                    kRows,
                                    kDim,
                                    kQueue,
                                    0,
                                    0.1,
                                    false,
                                    &loss,
                                    rank.data(),
                                    positive.data(),
                                    log_sum_exp.data(),
                                    expected.get()};
  std::vector<float> workspace(queue_infonce_workspace_bytes(forward) / sizeof(float) + 1);
  return queue_infonce_forward_cuda(forward, workspace.data(), nullptr) == cudaSuccess ? 0 : 1;
}
