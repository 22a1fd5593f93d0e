// pairwise_panels_cpu.cpp: what it makes of given scores.
#include "pairwise_panels_cases.h"
#include "simd_targets.h"

int main() {
  using namespace pairwise_panels_cases;
  for_simd_targets([](const Parallel& parallel) {
    for (const Case& c : kCases) {
      run_case<float>(
          Dtype::kFloat32, c, 1, [&](const PairwisePanel& panel) { pairwise_panel_cpu(panel, parallel); },
          [](float weight) { return weight; });
    }
  });
  return finish("pairwise panels on the CPU");
}
