// frame_difference.cu under the emulator.
#include "frame_difference_cases.h"

int main(int argc, char**) {
  frame_difference_cases::run_all(argc > 1, [](const motionops::FrameDifference& args, bool forward) {
    const cudaError_t error = forward ? motionops::frame_difference_forward_cuda(args, nullptr)
                                      : motionops::frame_difference_backward_cuda(args, nullptr);
    CHECK(error == cudaSuccess, "launch: %s", cudaGetErrorString(error));
  });
  return finish("frame_difference.cu");
}
