// The CPU launchers of frame_difference, on one thread and on several.
#include "frame_difference_cases.h"
#include "threads.h"

int main() {
  for (const int threads : numbers_of_threads()) {
    const ThreadParallel parallel(threads);
    frame_difference_cases::run_all(false, [&](const motionops::FrameDifference& args, bool forward) {
      if (forward) {
        motionops::frame_difference_forward_cpu(args, parallel);
      } else {
        motionops::frame_difference_backward_cpu(args, parallel);
      }
    });
  }
  return finish("frame_difference");
}
