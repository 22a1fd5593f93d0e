// region_contrast on the CPU.
#include "region_contrast_cases.h"
#include "simd_targets.h"

int main() {
  using namespace motionops;
  for_simd_targets([](const Parallel& parallel) {
    const auto forward = [&](const RegionContrastForward& args) { region_contrast_forward_cpu(args, parallel); };
    const auto backward = [&](const RegionContrastBackward& args) { region_contrast_backward_cpu(args, parallel); };
    for (const auto& c : region_contrast_cases::kCases) {
      for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat16}) {
        region_contrast_cases::run_case<float>(dtype, c, false, false, forward, backward);
      }
      region_contrast_cases::run_case<double>(Dtype::kFloat64, c, false, false, forward, backward);
    }
  });
  return finish("region_contrast on the CPU");
}
