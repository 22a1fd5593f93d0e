// region_contrast.cu under the emulator.
#include <span>

#include "region_contrast_cases.h"

int main(int argc, char**) {
  using namespace motionops;
  const bool few = argc > 1;  // under a sanitizer, where every CUDA thread is a host thread
  const auto forward = [](const RegionContrastForward& args) {
    std::vector<float> workspace(region_contrast_workspace_bytes(args) / sizeof(float) + 1, NAN);
    CHECK(region_contrast_forward_cuda(args, workspace.data(), nullptr) == cudaSuccess, "forward");
  };
  const auto backward = [](const RegionContrastBackward& args) {
    std::vector<float> workspace(region_contrast_backward_workspace_bytes(args) / sizeof(float) + 1, NAN);
    CHECK(region_contrast_backward_cuda(args, workspace.data(), nullptr) == cudaSuccess, "backward");
  };
  for (const auto& c :
       std::span(region_contrast_cases::kCases).first(few ? 1 : std::size(region_contrast_cases::kCases))) {
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat16}) {
      if (few && dtype == Dtype::kFloat16) continue;  // the same code as bfloat16
      region_contrast_cases::run_case<float>(dtype, c, true, false, forward, backward);
    }
    region_contrast_cases::run_case<float>(Dtype::kFloat32, c, true, true, forward, backward);
  }
  return finish("emulated region_contrast");
}
