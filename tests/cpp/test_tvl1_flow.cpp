// The CPU launcher of tvl1_flow, on one thread and on several.
#include "threads.h"
#include "tvl1_flow_cases.h"

int main() {
  for (const int threads : {1, 3}) {
    const ThreadParallel parallel(threads);
    tvl1_flow_cases::run_all(
        false, [&](const motionops::Tvl1Flow& args) { motionops::tvl1_flow_forward_cpu(args, parallel); });
  }
  return finish("tvl1_flow");
}
