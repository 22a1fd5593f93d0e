// A CUDA thread on the host: what the fake CUDA headers beside this file are made of.
//
// A kernel is an ordinary function. A launch runs its blocks one after another; inside a block every CUDA thread is a
// fiber (fiber_executor.cpp, fast) or a host thread (thread_executor.cpp, for the sanitizers). Both give the same three
// services: who am I, wait for my block, and meet the other lanes of my warp. Everything else (shuffles, votes,
// ldmatrix, matrix-unit instructions) is made of the last one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

struct alignas(1) uchar4 {
  unsigned char x, y, z, w;
};

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace emulator {

// Thrown by a launch: a barrier that not every thread reaches, a collective whose lanes disagree.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// An asynchronous copy that has been asked for and not yet waited for.
struct PendingCopy {
  void* target;
  const void* source;
  unsigned bytes;        // written at target
  unsigned valid_bytes;  // read from source; the rest is zero
};

struct Thread {
  uint3 thread_index;
  uint3 block_index;
  dim3 block_size;
  dim3 grid_size;
  unsigned flat_index;  // within the block
  unsigned lane;
  unsigned warp;
  void* dynamic_shared;
  std::vector<PendingCopy> open_copies;               // since the last commit
  std::vector<std::vector<PendingCopy>> copy_groups;  // committed, oldest first
};

// The CUDA thread that is running.
Thread& current();

// __syncthreads: returns when every thread of the block has called it. A thread that has returned from the kernel does
// not count as having arrived: the remaining ones are reported as waiting for ever.
void block_barrier();

// __syncthreads_count and its kin: a barrier that also sums `value` over the block.
int block_sum(int value);

// Every lane in `mask` calls this with the address of its own record. The last one to arrive runs `combine(records)`,
// where records[lane] is null for lanes outside the mask; then all return. Lanes that the block does not have are
// ignored.
using Combine = void (*)(void* const records[32]);
void warp_collective(unsigned mask, void* record, Combine combine);

// Runs `kernel(context)` once per thread of the grid. Dynamic shared memory is allocated to the byte and filled with a
// pattern that reads as NaN before each block, so that reading what nobody wrote shows. Called with launch_mutex held.
void run_grid(dim3 grid, dim3 block, size_t shared_bytes, void (*kernel)(void*), void* context);

// Held while a grid runs: host threads take turns.
inline std::mutex launch_mutex;

inline constexpr unsigned kMaximumThreads = 1024;

// The machine that is imagined; tests change it.
inline thread_local int current_device = 0;
inline int shared_bytes_of_a_block = 232448;  // what a block may ask for on sm_90
inline size_t static_shared_bytes = 0;        // of every kernel: `__shared__` is not counted here

// Fills a Thread's indices for the given place in the grid.
inline void place(Thread& thread, unsigned flat_index, uint3 block_index, dim3 block, dim3 grid, void* shared) {
  thread.thread_index = {flat_index % block.x, flat_index / block.x % block.y, flat_index / (block.x * block.y)};
  thread.block_index = block_index;
  thread.block_size = block;
  thread.grid_size = grid;
  thread.flat_index = flat_index;
  thread.lane = flat_index % 32;
  thread.warp = flat_index / 32;
  thread.dynamic_shared = shared;
  thread.open_copies.clear();
  thread.copy_groups.clear();
}

// The lanes of `mask` that exist in warp `warp` of a block of `threads` threads.
inline unsigned existing_lanes(unsigned mask, unsigned warp, unsigned threads) {
  const unsigned first = warp * 32;
  const unsigned count = threads - first < 32 ? threads - first : 32;
  return count == 32 ? mask : mask & ((1u << count) - 1);
}

}  // namespace emulator

// Few, so that a block has several pieces of work, and odd, so that they do not divide evenly. A plain symbol, so that
// Python's ctypes finds it too.
extern "C" {
__attribute__((visibility("default"))) inline int motionops_emulated_multiprocessors = 3;
}
