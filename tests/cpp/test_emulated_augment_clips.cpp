// augment_clips.cu under the emulator.
#include "augment_clips_cases.h"

int main(int argc, char**) {
  augment_clips_cases::run_all(argc > 1, [](const motionops::AugmentClips& args) {
    const size_t bytes = motionops::augment_clips_workspace_bytes(args);
    const std::unique_ptr<std::byte[]> workspace(new std::byte[bytes]);
    const cudaError_t error = motionops::augment_clips_forward_cuda(args, workspace.get(), nullptr);
    CHECK(error == cudaSuccess, "launch: %s", cudaGetErrorString(error));
  });
  return finish("augment_clips.cu");
}
