// pairwise_infonce on the CPU.
#include "pairwise_infonce_cases.h"
#include "simd_targets.h"

int main() {
  using namespace motionops;
  for_simd_targets([](const Parallel& parallel) {
    const auto forward = [&](const PairwiseInfonceForward& args) { pairwise_infonce_forward_cpu(args, parallel); };
    const auto backward = [&](const PairwiseInfonceBackward& args) { pairwise_infonce_backward_cpu(args, parallel); };
    for (const auto& c : pairwise_infonce_cases::kCases) {
      for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat16}) {
        pairwise_infonce_cases::run_case<float>(dtype, c, false, false, forward, backward);
      }
      pairwise_infonce_cases::run_case<double>(Dtype::kFloat64, c, false, false, forward, backward);
    }
  });
  return finish("pairwise_infonce on the CPU");
}
