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
       std::span(region_contrast_cases::kCases).first(few ? 2 : std::size(region_contrast_cases::kCases))) {
    region_contrast_cases::run_case<float>(Dtype::kBFloat16, c, true, false, forward, backward);
    if (few && &c != region_contrast_cases::kCases)
      continue;  // the other types go the same way through tiles and blocks
    region_contrast_cases::run_case<float>(Dtype::kFloat32, c, true, true, forward, backward);
    if (few) continue;
    region_contrast_cases::run_case<float>(Dtype::kFloat32, c, true, false, forward, backward);
    region_contrast_cases::run_case<float>(Dtype::kFloat16, c, true, false, forward, backward);
  }
  return finish("emulated region_contrast");
}
