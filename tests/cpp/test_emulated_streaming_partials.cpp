// The pieces that merge kernels are made of, on partial results made by hand: more slots than a round takes, as large
// GPUs leave behind (an H100 up to 264 of a row block), and more features than a piece.
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "contrast/streaming_partials.cuh"
#include "core/launch.h"

namespace {

using namespace motionops;

constexpr float kNothing = -std::numeric_limits<float>::infinity();

struct Made {
  int64_t slots;
  std::vector<float> maximum, sum, expected;
  std::vector<int32_t> rank;
  Partials partials{};

  // The maxima climb by 40 from the first slot to the last, or fall; every fifth slot has no column that counts.
  Made(int64_t slot_count, int64_t dim, bool climbing) : slots(slot_count) {
    std::mt19937 generator(static_cast<unsigned>(slots + dim));
    std::uniform_real_distribution<float> uniform(0.5f, 2.0f);
    for (int64_t place = 0; place < slots * kTileRows; ++place) {
      const int64_t slot = place / kTileRows, step = climbing ? slot : slots - 1 - slot;
      const bool empty = slots > 1 && slot % 5 == 3;
      maximum.push_back(empty ? kNothing : 40.0f * static_cast<float>(step) / static_cast<float>(slots) - 20);
      sum.push_back(empty ? 0 : uniform(generator));
      rank.push_back(empty ? 0 : static_cast<int32_t>(generator() % 7));
      for (int64_t d = 0; d < dim; ++d) expected.push_back(empty ? 0 : uniform(generator) - 1);
    }
    partials = {maximum.data(), sum.data(), nullptr, rank.data(), expected.data(), dim, 1.0f};
  }
};

void statistics_kernel(Partials partials, int64_t first, int64_t last, int row, RowStatistics* out) {
  out[threadIdx.x] = combine_statistics(partials, first, last, row);
}

void together_kernel(Partials partials, int64_t first, int64_t last, int row, RowStatistics* out) {
  out[threadIdx.x] = combine_statistics_together(partials, first, last, row);
}

template <bool kWeighted>
void expected_kernel(Partials partials, int64_t first, int64_t last, int row, float base, float* out) {
  combine_expected<kWeighted>(partials, first, last, row, base, [&](int64_t d, float total) { out[d] = total; });
}

// A block for each 32 features.
template <bool kWeighted>
void shared_kernel(Partials partials, int64_t first, int64_t last, int row, float base, float* out) {
  combine_piece<kWeighted, 32>(partials, first, last, row, base, int64_t{blockIdx.x} * 32,
                               [&](int64_t d, float total) { out[d] = total; });
}

template <typename Kernel>
void check_statistics(Kernel kernel, int threads, const Made& made, int64_t first, int64_t last, int row) {
  std::vector<RowStatistics> found(threads);
  CHECK(
      launch(kernel, dim3(1), dim3(threads), 0, nullptr, made.partials, first, last, row, found.data()) == cudaSuccess,
      "launch");
  double highest = kNothing, total = 0;
  int rank = 0;
  for (int64_t slot = first; slot <= last; ++slot) {
    const int64_t place = slot * kTileRows + row;
    highest = std::fmax(highest, made.maximum[place]);
    total += made.sum[place] * std::exp(static_cast<double>(made.maximum[place]));
    rank += made.rank[place];
  }
  for (const RowStatistics& of_thread : found) {
    CHECK(of_thread.maximum == static_cast<float>(highest), "slots %ld to %ld: maximum %g for %g", first, last,
          of_thread.maximum, highest);
    CHECK(close_to(of_thread.sum / (total * std::exp(-highest)), 1, 1e-5), "slots %ld to %ld: sum %g for %g", first,
          last, of_thread.sum, total * std::exp(-highest));
    CHECK(of_thread.rank == rank, "slots %ld to %ld: rank %d for %d", first, last, of_thread.rank, rank);
  }
}

template <bool kWeighted, typename Kernel>
void check_expected(Kernel kernel, int64_t blocks, const Made& made, int64_t first, int64_t last, int row) {
  const int64_t dim = made.partials.padded_dim;
  constexpr float kBase = 20;
  std::unique_ptr<float[]> found(new float[dim]);  // to the byte
  CHECK(launch(kernel, grid_of(blocks), dim3(kMergeThreads), 0, nullptr, made.partials, first, last, row, kBase,
               found.get()) == cudaSuccess,
        "launch");
  for (int64_t d = 0; d < dim; ++d) {
    double total = 0, size = 0;
    for (int64_t slot = first; slot <= last; ++slot) {
      const int64_t place = slot * kTileRows + row;
      const double weight = kWeighted ? std::exp(static_cast<double>(made.maximum[place]) - kBase) : 1;
      total += weight * made.expected[place * dim + d];
      size += weight * std::fabs(made.expected[place * dim + d]);
    }
    CHECK(close_to(found[d], total, 1e-5 * size), "slots %ld to %ld, %ld features: %g for %g", first, last, dim,
          found[d], total);
  }
}

}  // namespace

int main() {
  for (const bool climbing : {true, false}) {
    for (const int64_t slots : {1, 2, 32, 33, 128, 129, 264, 300, 1025}) {
      const Made made(slots, 8, climbing);
      check_statistics(statistics_kernel, 32, made, 0, slots - 1, 0);
      check_statistics(statistics_kernel, 32, made, slots / 3, slots - 1, 63);
      check_statistics(together_kernel, kMergeThreads, made, 0, slots - 1, 0);
      check_statistics(together_kernel, kMergeThreads, made, slots / 3, slots - 1, 63);
    }
  }
  struct Size {
    int64_t slots, dim;
  };
  for (const Size& size : {Size{1, 8}, Size{9, 128}, Size{64, 8}, Size{65, 136}, Size{150, 264}, Size{300, 40}}) {
    const Made made(size.slots, size.dim, true);
    const int64_t pieces = (size.dim + 31) / 32;
    check_expected<true>(expected_kernel<true>, 1, made, 0, size.slots - 1, 5);
    check_expected<false>(expected_kernel<false>, 1, made, size.slots / 3, size.slots - 1, 63);
    check_expected<true>(shared_kernel<true>, pieces, made, 0, size.slots - 1, 5);
    check_expected<false>(shared_kernel<false>, pieces, made, size.slots / 3, size.slots - 1, 63);
  }
  return finish("merging partial results");
}
