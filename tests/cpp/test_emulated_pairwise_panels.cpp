// pairwise_panels.cu under the emulator: what it makes of given scores.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/device_types.h"
#include "pairwise_panels_cases.h"

namespace {

using namespace pairwise_panels_cases;

template <typename Element>
void run(Dtype dtype, const Case& c) {
  run_case<Element>(
      dtype, c, panel_weight_scale(dtype),
      [](const PairwisePanel& panel) { CHECK(pairwise_panel_cuda(panel, nullptr) == cudaSuccess, "panel"); },
      [](Element weight) { return device_widen(weight); });
}

}  // namespace

int main(int argc, char**) {
  for (size_t i = 0; i < (argc > 1 ? kFew : std::size(kCases)); ++i) {
    run<float>(Dtype::kFloat32, kCases[i]);
    run<__nv_bfloat16>(Dtype::kBFloat16, kCases[i]);
    if (argc == 1) run<__half>(Dtype::kFloat16, kCases[i]);
  }
  std::vector<float> sums(1000, 1.0f), part(1000, 2.0f);
  CHECK(add_panel_cuda(sums.data(), part.data(), 0.5f, 999, nullptr) == cudaSuccess, "add");
  CHECK(sums[0] == 1.5f && sums[998] == 1.5f && sums[999] == 1.0f, "sums %g %g %g", sums[0], sums[998], sums[999]);
  CHECK(add_panel_cuda(sums.data(), nullptr, 2.0f, 1000, nullptr) == cudaSuccess, "scale");
  CHECK(sums[0] == 3.0f && sums[999] == 2.0f, "scaled %g %g", sums[0], sums[999]);
  float loss = NAN;
  CHECK(mean_row_loss_cuda(sums.data(), 1000, &loss, nullptr) == cudaSuccess, "mean");
  CHECK(std::abs(loss - 2.999f) < 1e-5f, "mean %g", loss);
  return finish("emulated pairwise panels");
}
