// queue_infonce on the GPU: the streaming softmax with one own key per row, and video ids that strike out columns.
//
// Two kernels. The main loop (streaming_softmax.cuh) reads the queue once. The merge gives each row a block, or one for
// every 32 of its features where rows are few: it folds the CTAs' partial results, adds the own key in float32 - E_i - k_i
// nearly cancels once the model is confident, so the own key must not pass through rounded weights - and the last block to
// finish adds up the loss, in a fixed order.
#include "contrast/queue_infonce.h"

#include "contrast/own_key_softmax.cuh"

namespace motionops {
namespace {

struct QueueColumns {
  static constexpr bool kOwnKey = true;
  using Column = int64_t;  // the queue row's video id
  struct Row {
    int64_t id;
  };
  struct Block {};

  const int64_t* query_ids;  // null: every column counts
  const int64_t* queue_ids;
  int64_t queue_rows;

  __device__ __forceinline__ const int64_t* columns() const { return queue_ids; }
  __device__ __forceinline__ int64_t described_columns() const { return queue_rows; }
  __device__ __forceinline__ Row row(int64_t row) const { return {query_ids != nullptr ? query_ids[row] : 0}; }
  __device__ __forceinline__ Block block(int64_t, int64_t) const { return {}; }
  __device__ __forceinline__ bool masks(Block, int64_t begin, int64_t) const {
    return queue_ids != nullptr && begin < queue_rows;
  }
  __device__ __forceinline__ bool counts(const Row& row, int64_t column, int64_t id) const {
    return queue_ids == nullptr || column >= queue_rows || id != row.id;
  }
};

// grad_query = g / (B tau) (E - k), grad_key = g / (B tau) (p - 1) q; a block per row.
template <typename Element>
__global__ void __launch_bounds__(128)
    queue_infonce_backward_kernel(const __grid_constant__ QueueInfonceBackward args, const StoredValues query,
                                  const StoredValues key, const StoredGradients gradients) {
  const int64_t row = blockIdx.x;
  const float scale = gradients.loss[0] / (static_cast<float>(args.rows) * args.temperature.read());
  const float share = scale * expm1f(static_cast<const float*>(args.positive_logit)[row] -
                                     static_cast<const float*>(args.log_sum_exp)[row]);
  for (int64_t d = threadIdx.x; d < args.dim; d += blockDim.x) {
    const int64_t place = row * args.dim + d;
    if (gradients.query.data != nullptr) {
      const float expected = static_cast<const float*>(args.expected_key)[place];
      gradients.query.set(place, scale * (expected - key.in_products<Element>(place)));
    }
    if (gradients.key.data != nullptr) gradients.key.set(place, share * query.in_products<Element>(place));
  }
}

}  // namespace

size_t queue_infonce_workspace_bytes(const QueueInfonceForward& args) { return own_key_workspace_bytes(args); }

cudaError_t queue_infonce_forward_cuda(const QueueInfonceForward& args, void* workspace, cudaStream_t stream) {
  return own_key_forward(args, QueueColumns{args.query_ids, args.queue_ids, args.queue_rows}, workspace, stream);
}

cudaError_t queue_infonce_backward_cuda(const QueueInfonceBackward& args, cudaStream_t stream) {
  if (args.rows == 0) return cudaSuccess;
  return with_element(args.dtype, [&](auto element) {
    return launch(queue_infonce_backward_kernel<decltype(element)>, grid_of(args.rows), dim3(128), 0, stream, args,
                  query_values(args.query, args.types, args.dtype), key_values(args.key, args.types, args.dtype),
                  StoredGradients::of(args));
  });
}

}  // namespace motionops
