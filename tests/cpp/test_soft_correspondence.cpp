// soft_correspondence on the CPU.
#include "soft_correspondence_cases.h"
#include "threads.h"

int main() {
  const auto with = [](const motionops::Parallel& parallel) {
    soft_correspondence_cases::run_all(
        false, [&](const motionops::SoftCorrespondence& args) { motionops::soft_correspondence_cpu(args, parallel); });
  };
  with(motionops::SerialParallel());
  with(ThreadParallel(3));
  return finish("soft_correspondence on the CPU");
}
