// The one way a kernel is started, and the one way it finds its dynamic shared memory: the two pieces of CUDA syntax
// that an ordinary C++ compiler cannot read. With nvcc they are CUDA; in the emulator's build (tests/emulator) they run
// on the host.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace motionops {

inline constexpr size_t kSharedBytesWithoutAsking = 48 * 1024;

// Multiprocessors of the current device, or a small number where it cannot be told; asks nothing of the device itself.
inline int multiprocessor_count() {
  int device = 0, count = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 1;
  if (cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) return 1;
  return count;
}

#ifdef __CUDACC__

// Starts `kernel` and returns the launch's error. Arguments are converted to the kernel's parameter types.
template <typename... Parameters>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   std::type_identity_t<Parameters>... arguments) {
  if (shared_bytes > kSharedBytesWithoutAsking) {
    const cudaError_t error =
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared_bytes));
    if (error != cudaSuccess) return error;
  }
  kernel<<<grid, block, shared_bytes, stream>>>(arguments...);
  return cudaGetLastError();
}

// 128-byte aligned: rows of shared memory are read by ldmatrix and written by 16-byte copies.
__device__ __forceinline__ unsigned char* dynamic_shared_memory() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

#else

// Runs `kernel` before it returns. What CUDA refuses at a launch is refused here too.
template <typename... Parameters>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t,
                   std::type_identity_t<Parameters>... arguments) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const bool grid_fits =
      grid.x != 0 && grid.y != 0 && grid.z != 0 && grid.x <= 0x7fffffffu && grid.y <= 65535u && grid.z <= 65535u;
  if (threads == 0 || threads > emulator::kMaximumThreads || !grid_fits) return cudaErrorInvalidConfiguration;
  if (shared_bytes > emulator::kMaximumSharedBytes) return cudaErrorInvalidValue;
  auto body = [&] { kernel(arguments...); };
  emulator::run_grid(
      grid, block, shared_bytes, [](void* context) { (*static_cast<decltype(body)*>(context))(); }, &body);
  return cudaSuccess;
}

inline unsigned char* dynamic_shared_memory() {
  return static_cast<unsigned char*>(emulator::current().dynamic_shared);
}

#endif

}  // namespace motionops
