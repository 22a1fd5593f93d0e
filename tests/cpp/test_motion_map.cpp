// The CPU launchers of motion_map, on one thread and on several.
#include "motion_map_cases.h"
#include "threads.h"

int main() {
  for (const int threads : numbers_of_threads()) {
    const ThreadParallel parallel(threads);
    motion_map_cases::run_all(false, [&](const motionops::MotionMap& args, bool forward) {
      if (forward) {
        motionops::motion_map_forward_cpu(args, parallel);
      } else {
        motionops::motion_map_backward_cpu(args, parallel);
      }
    });
  }
  return finish("motion_map");
}
