// The one way a kernel is started, and the one way it finds its dynamic shared memory: the two pieces of CUDA syntax
// that an ordinary C++ compiler cannot read. With nvcc they are CUDA; in the emulator's build (tests/emulator) they run
// on the host.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <set>
#include <type_traits>
#include <utility>

namespace motionops {

// Multiprocessors of the current device, or a small number where it cannot be told; asks nothing of the device itself.
inline int multiprocessor_count() {
  int device = 0, count = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 1;
  if (cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) return 1;
  return count;
}

// What a block may have of it at most, or what any device gives where it cannot be told.
inline size_t shared_memory_of_a_block() {
  int device = 0, bytes = 0;
  constexpr size_t kEverywhere = 48 * 1024;
  if (cudaGetDevice(&device) != cudaSuccess) return kEverywhere;
  const cudaError_t error = cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return error == cudaSuccess ? static_cast<size_t>(bytes) : kEverywhere;
}

// That many blocks along x, and along z. Where CUDA has no such grid it is the empty one, whose launch is refused with
// cudaErrorInvalidConfiguration: cut to 32 bits, a number of blocks would leave a part of the result unwritten.
inline dim3 grid_of(int64_t blocks, int64_t along_z = 1) {
  const bool exists = blocks > 0 && blocks <= 0x7fffffff && along_z > 0 && along_z <= 0xffff;
  return exists ? dim3(static_cast<unsigned>(blocks), 1, static_cast<unsigned>(along_z)) : dim3(0);
}

// Lets `kernel` have all the shared memory that the current device gives a block. The limit belongs to the kernel and
// not to a launch: set to what one launch needs, it would refuse the larger launch of another host thread.
inline cudaError_t allow_shared_memory(const void* kernel) {
  static std::mutex mutex;
  static std::set<std::pair<const void*, int>> allowed;  // kernels, each on a device
  int device = 0, most = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  const std::lock_guard lock(mutex);
  if (allowed.count({kernel, device}) != 0) return cudaSuccess;
  error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error != cudaSuccess) return error;
  cudaFuncAttributes attributes;
  error = cudaFuncGetAttributes(&attributes, kernel);
  if (error != cudaSuccess) return error;
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               most - static_cast<int>(attributes.sharedSizeBytes));
  if (error == cudaSuccess) allowed.insert({kernel, device});
  return error;
}

// Starts `kernel` and returns the launch's error. Arguments are converted to the kernel's parameter types.
template <typename... Parameters>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                   [[maybe_unused]] cudaStream_t stream, std::type_identity_t<Parameters>... arguments) {
  if (shared_bytes > 0) {  // below 48 KB a kernel may have it without asking, but less what it has of its own
    const cudaError_t error = allow_shared_memory(reinterpret_cast<const void*>(kernel));
    if (error != cudaSuccess) {
      (void)cudaGetLastError();  // or the next launch would take it for its own
      return error;
    }
  }
#ifdef __CUDACC__
  kernel<<<grid, block, shared_bytes, stream>>>(arguments...);
  return cudaGetLastError();
#else
  auto body = [&] { kernel(arguments...); };
  return emulator::launch(
      reinterpret_cast<const void*>(kernel), grid, block, shared_bytes,
      [](void* context) { (*static_cast<decltype(body)*>(context))(); }, &body);
#endif
}

#ifdef __CUDACC__

// 128-byte aligned: rows of shared memory are read by ldmatrix and written by 16-byte copies.
__device__ __forceinline__ unsigned char* dynamic_shared_memory() {
  extern __shared__ __align__(128) unsigned char memory[];
  return memory;
}

#else

inline unsigned char* dynamic_shared_memory() {
  return static_cast<unsigned char*>(emulator::current().dynamic_shared);
}

#endif

}  // namespace motionops
