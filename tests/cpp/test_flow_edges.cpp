// The CPU launchers of flow_edges, on one thread and on several.
#include "flow_edges_cases.h"
#include "threads.h"

int main() {
  for (const int threads : numbers_of_threads()) {
    const ThreadParallel parallel(threads);
    flow_edges_cases::run_all(false, [&](const motionops::FlowEdges& args, bool forward) {
      if (forward) {
        motionops::flow_edges_forward_cpu(args, parallel);
      } else {
        motionops::flow_edges_backward_cpu(args, parallel);
      }
    });
  }
  return finish("flow_edges");
}
