// soft_correspondence.cu under the emulator.
#include "soft_correspondence_cases.h"

int main(int argc, char**) {
  soft_correspondence_cases::run_all(argc > 1, [](const motionops::SoftCorrespondence& args) {
    const cudaError_t error = motionops::soft_correspondence_cuda(args, nullptr);
    CHECK(error == cudaSuccess, "launch: %s", cudaGetErrorString(error));
  });
  return finish("soft_correspondence.cu");
}
