// The CPU launchers of ghost_batch_norm, on one thread and on several.
#include "ghost_batch_norm_cases.h"
#include "threads.h"

int main() {
  for (const int threads : numbers_of_threads()) {
    const ThreadParallel parallel(threads);
    ghost_batch_norm_cases::run_all(
        false,
        [&](const motionops::GhostBatchNormForward& args) { motionops::ghost_batch_norm_forward_cpu(args, parallel); },
        [&](const motionops::GhostBatchNormBackward& args) {
          motionops::ghost_batch_norm_backward_cpu(args, parallel);
        });
  }
  return finish("ghost_batch_norm");
}
