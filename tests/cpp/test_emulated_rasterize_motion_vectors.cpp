// rasterize_motion_vectors.cu under the emulator.
#include "rasterize_motion_vectors_cases.h"

int main(int argc, char**) {
  rasterize_motion_vectors_cases::run_all(argc > 1, [](const motionops::RasterizeMotionVectors& args) {
    const cudaError_t error = motionops::rasterize_motion_vectors_cuda(args, nullptr);
    CHECK(error == cudaSuccess, "launch: %s", cudaGetErrorString(error));
  });
  return finish("rasterize_motion_vectors.cu");
}
