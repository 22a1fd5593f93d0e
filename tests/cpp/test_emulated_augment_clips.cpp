// augment_clips.cu under the emulator.
#include "augment_clips_cases.h"

namespace {

void launch(const motionops::AugmentClips& args) {
  const size_t bytes = motionops::augment_clips_workspace_bytes(args);
  const std::unique_ptr<std::byte[]> workspace(new std::byte[bytes]);
  const cudaError_t error = motionops::augment_clips_forward_cuda(args, workspace.get(), nullptr);
  CHECK(error == cudaSuccess, "launch: %s", cudaGetErrorString(error));
}

// Nobody looks at the factors on a GPU; clamping must not make a black picture of one that is no number.
void a_factor_that_is_no_number_is_seen() {
  const uint8_t frame[2 * 2 * 3] = {10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120};
  const float extents[2 * 6] = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1}, sigma[2] = {1, 1};
  const int64_t order[2 * 4] = {0, 1, 2, 3, 0, 1, 2, 3};
  const bool grayscale[2] = {false, false};
  for (int step = 0; step < 4; ++step) {
    float jitter[2 * 4] = {1.2f, 1.2f, 1.2f, 0.2f, 1.2f, 1.2f, 1.2f, 0.2f}, output[2 * 3 * 4] = {};
    jitter[step] = NAN;
    motionops::AugmentClips args{};
    args.dtype = motionops::Dtype::kFloat32;
    args.common = {frame, 2, 2, 12, 6, 3, 1};
    args.extents = extents;
    args.jitter = jitter;
    args.order = order;
    args.grayscale = grayscale;
    args.blur_sigma = sigma;
    args.output = output;
    args.batch = 2;
    args.frames = 1;
    args.height = args.width = 2;
    args.blur_kernel = 3;
    for (double& scale : args.scale) scale = 1;
    launch(args);
    for (int i = 0; i < 2 * 3 * 4; ++i) {
      CHECK(std::isnan(output[i]) == (i < 12), "factor %d, value %d: %g", step, i, static_cast<double>(output[i]));
    }
  }
}

}  // namespace

int main(int argc, char**) {
  augment_clips_cases::run_all(argc > 1, launch);
  a_factor_that_is_no_number_is_seen();
  return finish("augment_clips.cu");
}
