// tvl1_flow.cu under the emulator.
#include <memory>

#include "tvl1_flow_cases.h"

int main(int argc, char**) {
  tvl1_flow_cases::run_all(argc > 1, [](const motionops::Tvl1Flow& args) {
    const std::unique_ptr<unsigned char[]> workspace(new unsigned char[motionops::tvl1_flow_workspace_bytes(args)]);
    const cudaError_t error = motionops::tvl1_flow_forward_cuda(args, workspace.get(), nullptr);
    CHECK(error == cudaSuccess, "launch: %s", cudaGetErrorString(error));
  });
  return finish("tvl1_flow.cu");
}
