// cp.async: copies from global to shared memory that pass no register and end some time before the wait that covers
// them.
//
// copy_async<bytes>(target, source, valid): `bytes` is 4, 8 or 16 and both addresses are aligned to it; where `valid`
// is false nothing is read and zeros are written. commit_copies() closes a group; wait_copies<n>() returns when all but
// this thread's n latest groups have ended. Other threads see the data after a barrier that follows the wait.
// The host twin does nothing until that wait: code that forgets it reads what was there before.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace motionops {

#ifdef __CUDACC__

template <int kBytes>
__device__ __forceinline__ void copy_async(void* target, const void* source, bool valid) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(target));
  const int source_bytes = valid ? kBytes : 0;
  if constexpr (kBytes == 16) {
    // .cg: past L1, which has nothing to gain from tiles that are read once
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(source), "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(source), "n"(kBytes),
                 "r"(source_bytes)
                 : "memory");
  }
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

#else

template <int kBytes>
void copy_async(void* target, const void* source, bool valid) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  const auto misaligned = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kBytes != 0; };
  if (misaligned(target) || misaligned(source)) throw emulator::Error("emulator: misaligned cp.async");
  std::memset(target, 0xff, kBytes);  // the unit may write from now on; what it writes is there after the wait
  emulator::current().open_copies.push_back({target, source, kBytes, valid ? kBytes : 0u});
}

inline void commit_copies() {
  emulator::Thread& thread = emulator::current();
  thread.copy_groups.push_back(std::move(thread.open_copies));
  thread.open_copies.clear();
}

template <int kPending>
void wait_copies() {
  auto& groups = emulator::current().copy_groups;
  while (groups.size() > kPending) {
    for (const emulator::PendingCopy& copy : groups.front()) {
      if (copy.valid_bytes != 0) std::memcpy(copy.target, copy.source, copy.valid_bytes);
      std::memset(static_cast<unsigned char*>(copy.target) + copy.valid_bytes, 0, copy.bytes - copy.valid_bytes);
    }
    groups.erase(groups.begin());
  }
}

#endif

}  // namespace motionops
