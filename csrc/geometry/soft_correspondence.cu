// soft_correspondence on the GPU: a thread per element of S, neighbouring threads on neighbouring key cells. It writes
// each element once and reads next to nothing.
#include "geometry/soft_correspondence.h"

#include <algorithm>

#include "core/launch.h"

namespace motionops {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 1 << 20;

template <typename T>
__global__ void __launch_bounds__(kThreads)
    soft_correspondence_kernel(const __grid_constant__ SoftCorrespondence args) {
  const int64_t rows = args.query_grid.count(), columns = args.key_grid.count();
  const int64_t elements = args.batch * rows * columns;
  for (int64_t place = blockIdx.x * int64_t{kThreads} + threadIdx.x; place < elements;
       place += int64_t{gridDim.x} * kThreads) {
    const int64_t column = place % columns, row = place / columns % rows, b = place / columns / rows;
    double share = 1.0;
    for (int axis = 0; axis < kExtentAxes; ++axis) {
      share *= axis_overlap(args.query_extent + b * 6, args.query_grid, args.query_grid.along(axis, row),
                            args.key_extent + b * 6, args.key_grid, args.key_grid.along(axis, column), axis);
    }
    static_cast<T*>(args.result)[place] = static_cast<T>(share);
  }
}

}  // namespace

cudaError_t soft_correspondence_cuda(const SoftCorrespondence& args, cudaStream_t stream) {
  const int64_t elements = args.batch * args.query_grid.count() * args.key_grid.count();
  if (elements == 0) return cudaSuccess;
  const auto grid = dim3(static_cast<unsigned>(std::min((elements + kThreads - 1) / kThreads, kMostBlocks)));
  if (args.wide) return launch(soft_correspondence_kernel<double>, grid, dim3(kThreads), 0, stream, args);
  return launch(soft_correspondence_kernel<float>, grid, dim3(kThreads), 0, stream, args);
}

}  // namespace motionops
