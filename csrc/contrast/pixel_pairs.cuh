// Which pixels are positives of which, found on the device: one bit per pair of pixels of a set of frames (all of a
// sample, or each for itself: PixelContrastPairs::frames_of_set), and the list of the query pixels that have any.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "contrast/pixel_contrast.h"
#include "core/launch.h"
#include "core/warp.h"
#include "core/workspace.h"
#include "geometry/extent.h"

namespace motionops {

struct PixelHeader {
  int32_t listed;        // rows with a positive
  float maximum_weight;  // the largest weight of a row; 1 where there is no row
};

// All in workspace; pixel = y * W + x, area = H * W, row = (b * T + t) * area + pixel.
struct PixelPairs {
  uint32_t* near;   // [sets, area, words]: bit k of word w of a query pixel: key pixel 32 w + k is a positive
  uint8_t* has;     // [sets, area]: the query pixel has a positive
  int32_t* counts;  // [B]: how many have, in all sets of a sample
  PixelHeader* header;
  int32_t* list;   // [rows]: rows with a positive, ascending; header->listed of them
  int32_t* place;  // [rows]: where in the list, or -1
  int32_t batch, sets_of_sample, frames_of_set, area, words;

  __host__ __device__ int64_t sets() const { return int64_t{batch} * sets_of_sample; }
  __host__ __device__ int64_t rows() const { return sets() * frames_of_set * area; }
};

inline PixelPairs take_pixel_pairs(const PixelContrastPairs& pairs, Workspace& workspace) {
  PixelPairs taken{};
  taken.batch = static_cast<int32_t>(pairs.batch);
  taken.frames_of_set = static_cast<int32_t>(pairs.frames_of_set());
  taken.sets_of_sample = taken.frames_of_set == 0 ? 0 : static_cast<int32_t>(pairs.frames) / taken.frames_of_set;
  taken.area = static_cast<int32_t>(pairs.area());
  taken.words = (taken.area + 31) / 32;
  taken.near = workspace.take<uint32_t>(taken.sets() * taken.area * taken.words);
  taken.has = workspace.take<uint8_t>(taken.sets() * taken.area);
  taken.counts = workspace.take<int32_t>(taken.batch);
  taken.header = workspace.take<PixelHeader>(1);
  taken.list = workspace.take<int32_t>(taken.rows());
  taken.place = workspace.take<int32_t>(taken.rows());
  return taken;
}

namespace pixel_pairs {

// Cells of one view in its source.
struct Placement {
  double start_y, start_x, step_y, step_x;

  __device__ Placement(const double* extent, int64_t height, int64_t width)
      : start_y(extent[2]),
        start_x(extent[4]),
        step_y((extent[3] - extent[2]) / static_cast<double>(height)),
        step_x((extent[5] - extent[4]) / static_cast<double>(width)) {}
  __device__ double diagonal() const { return sqrt(rounded_product(step_y, step_y) + rounded_product(step_x, step_x)); }
  __device__ double centre_y(int64_t y) const {
    return rounded_product(static_cast<double>(y) + 0.5, step_y) + start_y;
  }
  __device__ double centre_x(int64_t x) const {
    return rounded_product(static_cast<double>(x) + 0.5, step_x) + start_x;
  }
};

// Where the mask of a set begins; null for none.
__device__ __forceinline__ const bool* mask_of_set(const bool* mask, bool of_frames, int64_t set, int64_t sample,
                                                   int64_t area) {
  return mask == nullptr ? nullptr : mask + (of_frames ? set : sample) * area;
}

inline constexpr int kNearWarps = 4;

// A warp per query pixel, a lane per key pixel. Each source that includes this has kernels of its own.
static __global__ void __launch_bounds__(32 * kNearWarps)
    near_pixels_kernel(const __grid_constant__ PixelContrastPairs pairs, const __grid_constant__ PixelPairs out) {
  const int64_t query = blockIdx.x * int64_t{kNearWarps} + threadIdx.x / 32;  // set * area + pixel
  if (query >= out.sets() * out.area) return;
  const int lane = threadIdx.x % 32;
  const int64_t set = query / out.area, pixel = query - set * out.area, sample = set / out.sets_of_sample;
  const bool* query_mask = mask_of_set(pairs.query_mask, pairs.query_mask_of_frames, set, sample, out.area);
  const bool* key_mask = mask_of_set(pairs.key_mask, pairs.key_mask_of_frames, set, sample, out.area);
  const bool foreground = query_mask == nullptr || query_mask[pixel];
  const Placement of_query(pairs.query_extent + sample * 6, pairs.height, pairs.width);
  const Placement of_key(pairs.key_extent + sample * 6, pairs.height, pairs.width);
  const double query_diagonal = of_query.diagonal(), key_diagonal = of_key.diagonal();
  // A NaN in either extent must stay: it is near nothing.
  const double diagonal = key_diagonal > query_diagonal || isnan(key_diagonal) ? key_diagonal : query_diagonal;
  const double y = of_query.centre_y(pixel / pairs.width), x = of_query.centre_x(pixel % pairs.width);
  uint32_t any = 0;
  for (int word = 0; word < out.words; ++word) {
    const int key = 32 * word + lane;
    bool near = false;
    if (foreground && key < out.area && (key_mask == nullptr || key_mask[key])) {
      const double dy = y - of_key.centre_y(key / pairs.width), dx = x - of_key.centre_x(key % pairs.width);
      near = sqrt(rounded_product(dy, dy) + rounded_product(dx, dx)) / diagonal < pairs.radius;
    }
    const uint32_t bits = __ballot_sync(kAllLanes, near);
    if (lane == 0) out.near[query * out.words + word] = bits;
    any |= bits;
  }
  if (lane == 0) out.has[query] = any != 0;
}

inline constexpr int kListThreads = 1024;

// One block: rows are few (thousands), and an order kept makes every later sum repeatable.
static __global__ void __launch_bounds__(kListThreads)
    list_rows_kernel(const __grid_constant__ PixelPairs pairs, float* weight) {
  __shared__ int32_t per_warp[kListThreads / 32];
  __shared__ int32_t samples_per_warp[kListThreads / 32];
  __shared__ int32_t fewest_per_warp[kListThreads / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;

  int32_t samples = 0, fewest = INT32_MAX;
  for (int b = warp; b < pairs.batch; b += kListThreads / 32) {
    int32_t count = 0;
    const int64_t pixels = int64_t{pairs.sets_of_sample} * pairs.area;
    for (int64_t pixel = lane; pixel < pixels; pixel += 32) count += pairs.has[b * pixels + pixel];
    count = warp_sum(count);
    if (lane == 0) pairs.counts[b] = count;
    samples += count > 0;
    if (count > 0) fewest = min(fewest, count);
  }
  if (lane == 0) {
    samples_per_warp[warp] = samples;
    fewest_per_warp[warp] = fewest;
  }
  __syncthreads();
  samples = 0;
  for (int other = 0; other < kListThreads / 32; ++other) {
    samples += samples_per_warp[other];
    fewest = min(fewest, fewest_per_warp[other]);
  }

  const int64_t rows = pairs.rows();
  int32_t before = 0;
  for (int64_t begin = 0; begin < rows; begin += kListThreads) {
    const int64_t row = begin + threadIdx.x;
    const int64_t frame = row / pairs.area, set = frame / pairs.frames_of_set;
    const bool has = row < rows && pairs.has[set * pairs.area + (row - frame * pairs.area)] != 0;
    const Numbered listed = block_number(has, per_warp);
    const int32_t place = before + listed.number;
    before += listed.count;
    if (row < rows) {
      pairs.place[row] = has ? place : -1;
      if (has) pairs.list[place] = static_cast<int32_t>(row);
      if (weight != nullptr) {
        const float of_sample = static_cast<float>(samples) * static_cast<float>(pairs.frames_of_set);
        weight[row] = has ? 1.0f / (of_sample * static_cast<float>(pairs.counts[set / pairs.sets_of_sample])) : 0.0f;
      }
    }
    __syncthreads();  // per_warp is written again
  }
  if (threadIdx.x == 0) {
    pairs.header->listed = before;
    pairs.header->maximum_weight = samples > 0
                                       ? 1.0f / (static_cast<float>(samples) * static_cast<float>(pairs.frames_of_set) *
                                                 static_cast<float>(fewest))
                                       : 1.0f;
  }
}

}  // namespace pixel_pairs

// Fills `out`, and weight [rows] where it is not null.
inline cudaError_t find_pixel_pairs(const PixelContrastPairs& pairs, const PixelPairs& out, float* weight,
                                    cudaStream_t stream) {
  const int64_t queries = out.sets() * out.area;
  const cudaError_t error = launch(pixel_pairs::near_pixels_kernel,
                                   grid_of((queries + pixel_pairs::kNearWarps - 1) / pixel_pairs::kNearWarps),
                                   dim3(32 * pixel_pairs::kNearWarps), 0, stream, pairs, out);
  if (error != cudaSuccess) return error;
  return launch(pixel_pairs::list_rows_kernel, dim3(1), dim3(pixel_pairs::kListThreads), 0, stream, out, weight);
}

}  // namespace motionops
