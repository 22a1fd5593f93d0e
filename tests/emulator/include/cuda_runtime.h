// Stands in for CUDA's header of this name when a .cu file is compiled by an ordinary C++ compiler. Only what the
// kernels of this repository use is here; what is missing fails to compile.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <type_traits>
#include <utility>

#include "emulator.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static  // blocks run one after another, so one instance is one block's
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __grid_constant__

#define threadIdx (::emulator::current().thread_index)
#define blockIdx (::emulator::current().block_index)
#define blockDim (::emulator::current().block_size)
#define gridDim (::emulator::current().grid_size)

inline constexpr int warpSize = 32;

// ---- host side ----

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchFailure = 719
};
using cudaStream_t = void*;

inline const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
  }
  return "unknown error";
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16, cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };
inline cudaError_t cudaGetDevice(int* device) {
  *device = emulator::current_device;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? motionops_emulated_multiprocessors
                                                       : emulator::shared_bytes_of_a_block;
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t = nullptr) {
  if (bytes != 0) std::memset(target, value, bytes);
  return cudaSuccess;
}
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
inline cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind,
                                   cudaStream_t = nullptr) {
  if (bytes != 0) std::memcpy(target, source, bytes);
  return cudaSuccess;
}

// ---- launches, and how much dynamic shared memory a kernel may have ----

struct cudaFuncAttributes {
  size_t sharedSizeBytes;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

namespace emulator {

inline std::mutex shared_memory_mutex;
// Bytes that a kernel may have on a device, where they were set.
inline std::map<std::pair<const void*, int>, size_t> shared_memory_set;

inline size_t shared_memory_allowed(const void* kernel) {
  const std::lock_guard lock(shared_memory_mutex);
  const auto set = shared_memory_set.find({kernel, current_device});
  return set != shared_memory_set.end() ? set->second : 48 * 1024 - static_shared_bytes;
}

// Runs the kernel before it returns. What CUDA refuses at a launch is refused here too; whether its shared memory is too
// much is asked last, when the launches of other host threads are over, so that what they set in the meantime shows.
inline cudaError_t launch(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, void (*body)(void*),
                          void* context) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const bool grid_fits =
      grid.x != 0 && grid.y != 0 && grid.z != 0 && grid.x <= 0x7fffffffu && grid.y <= 65535u && grid.z <= 65535u;
  if (threads == 0 || threads > kMaximumThreads || !grid_fits) return cudaErrorInvalidConfiguration;
  const std::lock_guard lock(launch_mutex);
  if (shared_bytes > shared_memory_allowed(kernel)) return cudaErrorInvalidValue;
  run_grid(grid, block, shared_bytes, body, context);
  return cudaSuccess;
}

}  // namespace emulator

inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  attributes->sharedSizeBytes = emulator::static_shared_bytes;
  return cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int bytes) {
  const size_t most = static_cast<size_t>(emulator::shared_bytes_of_a_block) - emulator::static_shared_bytes;
  if (bytes < 0 || static_cast<size_t>(bytes) > most) return cudaErrorInvalidValue;
  const std::lock_guard lock(emulator::shared_memory_mutex);
  emulator::shared_memory_set[{kernel, emulator::current_device}] = static_cast<size_t>(bytes);
  return cudaSuccess;
}

// ---- vector types ----

#define MOTIONOPS_EMULATED_VECTORS(type, name)                                                \
  struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                    \
  struct alignas(4 * sizeof(type) > 16 ? 16 : 4 * sizeof(type)) name##4 { type x, y, z, w; }; \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                            \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
MOTIONOPS_EMULATED_VECTORS(float, float)
MOTIONOPS_EMULATED_VECTORS(double, double)
MOTIONOPS_EMULATED_VECTORS(int, int)
MOTIONOPS_EMULATED_VECTORS(unsigned, uint)
#undef MOTIONOPS_EMULATED_VECTORS
inline uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) { return {x, y, z, w}; }

// ---- arithmetic ----

inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline float __uint_as_float(unsigned value) { return std::bit_cast<float>(value); }
inline float __int_as_float(int value) { return std::bit_cast<float>(value); }
inline float __expf(float value) { return std::exp(value); }
inline float __logf(float value) { return std::log(value); }
inline float __log2f(float value) { return std::log2(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float value) { return value > 0 ? (value < 1 ? value : 1.0f) : 0.0f; }  // NaN becomes 0
inline float __frcp_rn(float value) { return 1.0f / value; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }
using std::isfinite;
using std::isinf;
using std::isnan;
inline int __popc(unsigned value) { return std::popcount(value); }
inline int __ffs(int value) { return value == 0 ? 0 : std::countr_zero(static_cast<unsigned>(value)) + 1; }
inline int __clz(int value) { return std::countl_zero(static_cast<unsigned>(value)); }
#define MOTIONOPS_EMULATED_MINMAX(type)                     \
  inline type min(type a, type b) { return b < a ? b : a; } \
  inline type max(type a, type b) { return a < b ? b : a; }
MOTIONOPS_EMULATED_MINMAX(int)
MOTIONOPS_EMULATED_MINMAX(unsigned)
MOTIONOPS_EMULATED_MINMAX(long)
MOTIONOPS_EMULATED_MINMAX(long long)
MOTIONOPS_EMULATED_MINMAX(unsigned long)
MOTIONOPS_EMULATED_MINMAX(unsigned long long)
#undef MOTIONOPS_EMULATED_MINMAX
inline float min(float a, float b) { return std::fmin(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }

template <typename T>
T __ldg(const T* address) {
  return *address;
}

template <typename T>
T __ldcg(const T* address) {
  return *address;
}

// ---- barriers ----

inline void __syncthreads() { emulator::block_barrier(); }
inline int __syncthreads_count(int predicate) { return emulator::block_sum(predicate != 0); }
inline int __syncthreads_or(int predicate) { return emulator::block_sum(predicate != 0) != 0; }
inline int __syncthreads_and(int predicate) { return emulator::block_sum(predicate == 0) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  char nothing = 0;
  emulator::warp_collective(mask, &nothing, [](void* const*) {});
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// ---- exchange between lanes: every lane leaves a value, then takes another's ----

namespace emulator {

template <typename T>
struct Exchange {
  T given;
  T taken;
  int source;  // lane to take from
};

// A lane outside 0..31, or one that takes no part, gives the caller its own value back, as the instruction does.
template <typename T>
T exchange(unsigned mask, T value, int source) {
  Exchange<T> record{value, value, source};
  warp_collective(mask, &record, [](void* const records[32]) {
    for (int lane = 0; lane < 32; ++lane) {
      auto* mine = static_cast<Exchange<T>*>(records[lane]);
      if (mine == nullptr || mine->source < 0 || mine->source > 31) continue;
      if (auto* other = static_cast<Exchange<T>*>(records[mine->source])) mine->taken = other->given;
    }
  });
  return record.taken;
}

// Folds one value per lane into one that every lane gets.
template <typename T, typename Fold>
T fold(unsigned mask, T value, Fold) {
  warp_collective(mask, &value, [](void* const records[32]) {
    T* first = nullptr;
    for (int lane = 0; lane < 32; ++lane) {
      auto* mine = static_cast<T*>(records[lane]);
      if (mine == nullptr) continue;
      if (first == nullptr) {
        first = mine;
      } else {
        *first = Fold{}(*first, *mine);
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      if (auto* mine = static_cast<T*>(records[lane])) *mine = *first;
    }
  });
  return value;
}

struct Sum {
  template <typename T>
  T operator()(T a, T b) const {
    return a + b;
  }
};
struct Minimum {
  template <typename T>
  T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};
struct Maximum {
  template <typename T>
  T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};
struct BitOr {
  unsigned operator()(unsigned a, unsigned b) const { return a | b; }
};
struct BitAnd {
  unsigned operator()(unsigned a, unsigned b) const { return a & b; }
};

inline int lane() { return static_cast<int>(current().lane); }

}  // namespace emulator

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int lane = emulator::lane();
  return emulator::exchange(mask, value, (lane & ~(width - 1)) + (source & (width - 1)));
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32) {
  const int lane = emulator::lane(), source = lane ^ lane_mask;
  return emulator::exchange(mask, value, source < (lane & ~(width - 1)) + width ? source : lane);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = emulator::lane(), source = lane + static_cast<int>(delta);
  return emulator::exchange(mask, value, source < (lane & ~(width - 1)) + width ? source : lane);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = emulator::lane(), source = lane - static_cast<int>(delta);
  return emulator::exchange(mask, value, source >= (lane & ~(width - 1)) ? source : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return emulator::fold(mask, predicate != 0 ? 1u << emulator::lane() : 0u, emulator::BitOr{});
}
inline int __any_sync(unsigned mask, int predicate) {
  return emulator::fold(mask, predicate != 0 ? 1u : 0u, emulator::BitOr{}) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return emulator::fold(mask, predicate != 0 ? 1u : 0u, emulator::BitAnd{}) != 0;
}
template <typename T>
T __reduce_add_sync(unsigned mask, T value) {
  return emulator::fold(mask, value, emulator::Sum{});
}
template <typename T>
T __reduce_min_sync(unsigned mask, T value) {
  return emulator::fold(mask, value, emulator::Minimum{});
}
template <typename T>
T __reduce_max_sync(unsigned mask, T value) {
  return emulator::fold(mask, value, emulator::Maximum{});
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
  return emulator::fold(mask, value, emulator::BitOr{});
}

// ---- atomics: relaxed, as on the device, so that they hide no race from ThreadSanitizer ----

template <typename T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}
template <typename T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).exchange(value, std::memory_order_relaxed);
}
template <typename T>
T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  std::atomic_ref<T>(*address).compare_exchange_strong(compare, value, std::memory_order_relaxed);
  return compare;
}
template <typename T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  std::atomic_ref<T> target(*address);
  T seen = target.load(std::memory_order_relaxed);
  while (seen < value && !target.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
  return seen;
}
template <typename T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  std::atomic_ref<T> target(*address);
  T seen = target.load(std::memory_order_relaxed);
  while (value < seen && !target.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
  return seen;
}
template <typename T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return std::atomic_ref<T>(*address).fetch_or(value, std::memory_order_relaxed);
}
