// The CPU launcher of rasterize_motion_vectors, on one thread and on several.
#include "rasterize_motion_vectors_cases.h"
#include "threads.h"

int main() {
  for (const int threads : numbers_of_threads()) {
    const ThreadParallel parallel(threads);
    rasterize_motion_vectors_cases::run_all(false, false, [&](const motionops::RasterizeMotionVectors& args) {
      motionops::rasterize_motion_vectors_cpu(args, parallel);
    });
  }
  return finish("rasterize_motion_vectors");
}
