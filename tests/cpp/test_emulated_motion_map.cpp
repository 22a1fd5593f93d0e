// motion_map.cu under the emulator.
#include "motion_map_cases.h"

int main(int argc, char**) {
  motion_map_cases::run_all(argc > 1, [](const motionops::MotionMap& args, bool forward) {
    const cudaError_t error = forward ? motionops::motion_map_forward_cuda(args, nullptr)
                                      : motionops::motion_map_backward_cuda(args, nullptr);
    CHECK(error == cudaSuccess, "launch: %s", cudaGetErrorString(error));
  });
  return finish("motion_map.cu");
}
