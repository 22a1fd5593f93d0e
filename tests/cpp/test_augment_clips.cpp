// The CPU launcher of augment_clips, on one thread and on several.
#include "augment_clips_cases.h"
#include "threads.h"

int main() {
  for (const int threads : {1, 3}) {
    const ThreadParallel parallel(threads);
    augment_clips_cases::run_all(
        false, [&](const motionops::AugmentClips& args) { motionops::augment_clips_forward_cpu(args, parallel); });
  }
  return finish("augment_clips");
}
