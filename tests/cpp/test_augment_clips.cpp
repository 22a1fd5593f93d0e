// The CPU launcher of augment_clips, with every SIMD target.
#include "augment_clips_cases.h"
#include "simd_targets.h"

int main() {
  for_simd_targets([](const motionops::Parallel& parallel) {
    augment_clips_cases::run_all(
        false, [&](const motionops::AugmentClips& args) { motionops::augment_clips_forward_cpu(args, parallel); });
  });
  return finish("augment_clips");
}
