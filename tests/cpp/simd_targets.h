// Runs a test of CPU launchers for every SIMD target that this machine runs, each in a process of its own, since the target
// is chosen once; in it on one thread and on several.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "check.h"
#include "core/simd_target.h"
#include "threads.h"

template <typename Test>
void for_simd_targets(const Test& test) {
  const char* names[] = {"baseline", "avx2", "avx512"};
  for (int target = 0; target <= static_cast<int>(motionops::supported_simd_target()); ++target) {
    const pid_t child = fork();
    if (child == 0) {
      setenv("MOTIONOPS_SIMD", names[target], 1);
      failures = 0;  // those of the targets before are not this one's
      for (const int threads : numbers_of_threads()) test(ThreadParallel(threads));
      _exit(failures == 0 ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    CHECK(status == 0, "SIMD target %s", names[target]);
  }
}
