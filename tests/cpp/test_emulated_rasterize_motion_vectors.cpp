// rasterize_motion_vectors.cu under the emulator.
#include <memory>

#include "rasterize_motion_vectors_cases.h"

int main(int argc, char**) {
  rasterize_motion_vectors_cases::run_all(argc > 1, true, [](const motionops::RasterizeMotionVectors& args) {
    std::unique_ptr<char[]> workspace(new char[motionops::rasterize_motion_vectors_workspace_bytes(args)]);
    const cudaError_t error = motionops::rasterize_motion_vectors_cuda(args, workspace.get(), nullptr);
    CHECK(error == cudaSuccess, "launch: %s", cudaGetErrorString(error));
  });
  return finish("rasterize_motion_vectors.cu");
}
