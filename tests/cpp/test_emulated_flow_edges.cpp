// flow_edges.cu under the emulator.
#include "flow_edges_cases.h"

int main(int argc, char**) {
  flow_edges_cases::run_all(argc > 1, [](const motionops::FlowEdges& args, bool forward) {
    const cudaError_t error = forward ? motionops::flow_edges_forward_cuda(args, nullptr)
                                      : motionops::flow_edges_backward_cuda(args, nullptr);
    CHECK(error == cudaSuccess, "launch: %s", cudaGetErrorString(error));
  });
  return finish("flow_edges.cu");
}
