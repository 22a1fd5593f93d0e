// The list of rows that have a positive, on a foreground made by hand: more rows than a round of the block takes, more
// samples than it has warps, more pixels than a warp has lanes. That this links shows that two sources may include the
// kernels.
#include <cstdint>
#include <random>
#include <vector>

#include "check.h"
#include "contrast/pixel_pairs.cuh"

namespace {

using namespace motionops;

// Of each sample, `sets` sets of `frames` frames that share their pairs.
void run(int32_t batch, int32_t sets, int32_t frames, int32_t area, unsigned one_in) {
  std::mt19937 generator(3);
  std::vector<uint8_t> has(batch * sets * area);
  for (uint8_t& pixel : has) pixel = one_in != 0 && generator() % one_in == 0;
  std::fill_n(has.begin(), sets * area, uint8_t{0});  // a sample that does not count
  const int32_t rows = batch * sets * frames * area;
  std::vector<int32_t> counts(batch, -1), list(rows, -1), place(rows, -7);
  std::vector<float> weight(rows, NAN);
  PixelHeader header{-1, NAN};
  PixelPairs pairs{};
  pairs.has = has.data();
  pairs.counts = counts.data();
  pairs.header = &header;
  pairs.list = list.data();
  pairs.place = place.data();
  pairs.batch = batch;
  pairs.sets_of_sample = sets;
  pairs.frames_of_set = frames;
  pairs.area = area;
  CHECK(launch(pixel_pairs::list_rows_kernel, dim3(1), dim3(pixel_pairs::kListThreads), 0, nullptr, pairs,
               weight.data()) == cudaSuccess,
        "launch");

  std::vector<int> of_sample(batch);
  for (int32_t i = 0; i < batch * sets * area; ++i) of_sample[i / (sets * area)] += has[i];
  double samples = 0, heaviest = 0;
  for (const int count : of_sample) samples += count > 0;
  int32_t listed = 0;
  for (int32_t row = 0; row < rows; ++row) {
    const int32_t set = row / (frames * area), sample = set / sets;
    const bool counts_here = has[set * area + row % area] != 0;
    CHECK(place[row] == (counts_here ? listed : -1), "row %d is at %d", row, place[row]);
    if (counts_here) CHECK(list[listed] == row, "place %d has row %d for %d", listed, list[listed], row);
    const double wanted = counts_here ? 1 / (samples * frames * of_sample[sample]) : 0;
    CHECK(close_to(weight[row], wanted, 1e-6 * wanted), "row %d: weight %g for %g", row, weight[row], wanted);
    heaviest = std::fmax(heaviest, wanted);
    listed += counts_here;
  }
  CHECK(header.listed == listed, "%d rows for %d", header.listed, listed);
  if (listed == 0) heaviest = 1;
  CHECK(close_to(header.maximum_weight, heaviest, 1e-6 * heaviest), "%g for %g", header.maximum_weight, heaviest);
}

}  // namespace

int main() {
  run(36, 1, 2, 34, 3);
  run(2, 1, 2, 17, 3);
  run(2, 1, 1, 17, 0);
  run(36, 3, 1, 34, 3);
  return finish("rows with a positive");
}
