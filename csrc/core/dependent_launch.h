// Programmatic dependent launch, of Hopper and newer: a kernel's blocks come onto the GPU while the last ones of the kernel
// before it in the stream still write, so that its start costs nothing. On older GPUs a launch like any other.
#pragma once

#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <type_traits>
#include <utility>

#include "core/launch.h"

namespace motionops {

// For the kernel before: every block says this once, when a block that waits may take a place beside it.
__device__ __forceinline__ void let_dependents_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// For the kernel behind, which every block calls before it reads or writes what another kernel touches: the kernel before
// has ended then, and what it wrote is seen.
__device__ __forceinline__ void wait_for_kernel_before() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

#ifdef __CUDACC__

// Whether the device can, and its code of `kernel` was compiled with the wait: a Hopper may also run what was compiled for
// an Ampere, and that would not wait.
inline bool waits_itself(const void* kernel) {
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, bool> known;  // kernels, each on a device
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return false;
  const std::lock_guard lock(mutex);
  const auto [place, fresh] = known.try_emplace({kernel, device}, false);
  if (fresh) {
    int major = 0;
    cudaFuncAttributes attributes;
    place->second = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
                    cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess && major >= 9 &&
                    attributes.ptxVersion >= 90;
  }
  return place->second;
}

#endif

// As launch(), of a kernel that calls wait_for_kernel_before(), right behind one that calls let_dependents_start().
template <typename... Parameters>
cudaError_t launch_dependent(void (*kernel)(Parameters...), dim3 grid, dim3 block, cudaStream_t stream,
                             std::type_identity_t<Parameters>... arguments) {
#ifdef __CUDACC__
  if (waits_itself(reinterpret_cast<const void*>(kernel))) {
    cudaLaunchAttribute early{};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.stream = stream;
    config.attrs = &early;
    config.numAttrs = 1;
    const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...);
    if (error != cudaSuccess) (void)cudaGetLastError();  // or the next launch would take it for its own
    return error;
  }
#endif
  return launch(kernel, grid, block, 0, stream, arguments...);
}

}  // namespace motionops
