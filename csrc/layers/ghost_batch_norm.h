// ghost_batch_norm: batch normalisation of each group of samples by its own statistics, with what follows it in a
// residual network: the shortcut's sum and the ReLU.
//
// Formula, for channel c of the samples of group g, which hold M values x of it:
//   mean = sum x / M     var = sum (x - mean)^2 / M     (both over the group alone)
//   z = (x - mean) * weight / sqrt(var + eps) + bias + residual
//   y = max(z, 0) with relu, else z
// Gradient, with dy that of y, invstd = 1 / sqrt(var + eps), and sums over the group's values of the channel:
//   dz = dy where y > 0, else 0 (relu); else dy         d residual = dz
//   dbias = sum dz over all groups                      dweight = sum dz (x - mean) invstd over all groups
//   dx = weight invstd (dz - sum dz / M - (x - mean) invstd^2 sum dz (x - mean) / M)
//
// Shapes: input, residual and output are [N, S, C], channels last: S are the positions of a sample. `groups` are the
//   numbers of samples in each group, in order. weight and bias are [C]; mean and var [G, C].
// Numerics: 16-bit types are widened; statistics, weight, bias and sums are float32 (float64 for float64). A thread sums
//   the distances from its own first value, so that a mean far from zero does not eat the variance; what threads have is
//   merged by the formula of Chan, Golub and LeVeque (1979), in a fixed order. y > 0 is asked of the rounded y.
// Cost: forward reads the input twice (and the residual once) and writes the output; backward reads the input and dy
//   twice and writes dx. With relu and residual the output tells where y > 0 and d residual is written in between.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/parallel.h"

#if defined(__CUDACC__) || defined(MOTIONOPS_WITH_CUDA) || defined(MOTIONOPS_EMULATED)
#include <cuda_runtime.h>
#define MOTIONOPS_DECLARE_CUDA_LAUNCHERS
#endif

namespace motionops {

struct GhostBatchNormForward {
  Dtype dtype;            // of input, residual and output
  const void* input;      // [N, S, C]
  const void* residual;   // [N, S, C] or null
  const void* weight;     // [C] or null: 1
  const void* bias;       // [C] or null: 0
  void* output;           // [N, S, C]
  void* mean;             // [G, C]
  void* var;              // [G, C]
  const int64_t* groups;  // [G] samples of each, in host memory; each at least 1
  int64_t group_count;    // G
  int64_t positions;      // S
  int64_t channels;       // C
  double eps;
  bool relu;
};

struct GhostBatchNormBackward {
  Dtype dtype;              // of grad_output, input, output and the gradients of input and residual
  const void* grad_output;  // [N, S, C]
  const void* input;        // [N, S, C]
  const void* output;       // [N, S, C] where relu follows a residual, else null
  const void* weight;       // [C] or null: 1
  const void* bias;         // [C] or null: 0
  const void* mean;         // [G, C]
  const void* var;          // [G, C]
  void* grad_input;         // [N, S, C]
  void* grad_residual;      // [N, S, C] where relu follows a residual, else null
  void* grad_weight;        // [C]
  void* grad_bias;          // [C]
  const int64_t* groups;
  int64_t group_count;
  int64_t positions;
  int64_t channels;
  double eps;
  bool relu;
};

void ghost_batch_norm_forward_cpu(const GhostBatchNormForward& args, const Parallel& parallel);
void ghost_batch_norm_backward_cpu(const GhostBatchNormBackward& args, const Parallel& parallel);

#ifdef MOTIONOPS_DECLARE_CUDA_LAUNCHERS
size_t ghost_batch_norm_workspace_bytes(const GhostBatchNormForward& args);
size_t ghost_batch_norm_backward_workspace_bytes(const GhostBatchNormBackward& args);
cudaError_t ghost_batch_norm_forward_cuda(const GhostBatchNormForward& args, void* workspace, cudaStream_t stream);
cudaError_t ghost_batch_norm_backward_cuda(const GhostBatchNormBackward& args, void* workspace, cudaStream_t stream);
#endif

}  // namespace motionops
