// The CPU launcher of tvl1_flow, with every SIMD target.
#include "simd_targets.h"
#include "tvl1_flow_cases.h"

int main() {
  for_simd_targets([](const motionops::Parallel& parallel) {
    tvl1_flow_cases::run_all(
        false, [&](const motionops::Tvl1Flow& args) { motionops::tvl1_flow_forward_cpu(args, parallel); });
  });
  return finish("tvl1_flow");
}
