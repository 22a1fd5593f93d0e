// pairwise_infonce.cu under the emulator.
#include <span>

#include "pairwise_infonce_cases.h"

int main(int argc, char**) {
  using namespace motionops;
  const bool few = argc > 1;  // under a sanitizer, where every CUDA thread is a host thread
  const auto forward = [](const PairwiseInfonceForward& args) {
    std::vector<float> workspace(pairwise_infonce_workspace_bytes(args) / sizeof(float) + 1, NAN);
    CHECK(pairwise_infonce_forward_cuda(args, workspace.data(), nullptr) == cudaSuccess, "forward");
  };
  const auto backward = [](const PairwiseInfonceBackward& args) {
    std::vector<float> workspace(pairwise_infonce_backward_workspace_bytes(args) / sizeof(float) + 1, NAN);
    CHECK(pairwise_infonce_backward_cuda(args, workspace.data(), nullptr) == cudaSuccess, "backward");
  };
  for (const auto& c : std::span(pairwise_infonce_cases::kCases)
                           .first(few ? pairwise_infonce_cases::kFew : std::size(pairwise_infonce_cases::kCases))) {
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat16}) {
      if (few && dtype == Dtype::kFloat16) continue;  // the same code as bfloat16
      pairwise_infonce_cases::run_case<float>(dtype, c, true, false, forward, backward);
    }
    pairwise_infonce_cases::run_case<float>(Dtype::kFloat32, c, true, true, forward, backward);
  }
  return finish("emulated pairwise_infonce");
}
