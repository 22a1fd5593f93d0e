// ghost_batch_norm.cu under the emulator, its workspace allocated to the byte.
#include <vector>

#include "ghost_batch_norm_cases.h"

int main(int argc, char**) {
  ghost_batch_norm_cases::run_all(
      argc > 1,
      [](const motionops::GhostBatchNormForward& args) {
        std::vector<unsigned char> workspace(motionops::ghost_batch_norm_workspace_bytes(args));
        const cudaError_t error = motionops::ghost_batch_norm_forward_cuda(args, workspace.data(), nullptr);
        CHECK(error == cudaSuccess, "launch: %s", cudaGetErrorString(error));
      },
      [](const motionops::GhostBatchNormBackward& args) {
        std::vector<unsigned char> workspace(motionops::ghost_batch_norm_backward_workspace_bytes(args));
        const cudaError_t error = motionops::ghost_batch_norm_backward_cuda(args, workspace.data(), nullptr);
        CHECK(error == cudaSuccess, "launch: %s", cudaGetErrorString(error));
      });
  return finish("ghost_batch_norm.cu");
}
