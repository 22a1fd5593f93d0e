// CUDA threads as host threads, for the sanitizers: ThreadSanitizer sees exactly the order that the kernel's own
// barriers give, AddressSanitizer sees shared memory that ends at its last byte.
//
// Each warp has its own lock, and the block's barrier another, so that two warps that do not meet are not ordered by
// accident: an order made by the emulator would hide a missing barrier. The count that finds deadlocks is relaxed for
// the same reason.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "include/emulator.h"

namespace emulator {
namespace {

struct Meeting {
  explicit Meeting(unsigned lanes = 0) : mask(lanes) {}
  std::condition_variable released;
  std::uint64_t generation = 0;
  unsigned mask;
  unsigned arrived_lanes = 0;
  unsigned arrived = 0;
  void* records[32] = {};
  int sum = 0;
  int result = 0;
};

struct Warp {
  std::mutex mutex;
  std::list<Meeting> meetings;  // one for each mask that was used

  Meeting& meeting_of(unsigned lanes) {
    for (Meeting& meeting : meetings) {
      if (meeting.mask == lanes) return meeting;
    }
    return meetings.emplace_back(lanes);
  }
};

struct Block {
  unsigned threads = 0;
  std::mutex barrier_mutex;
  Meeting barrier;
  std::unique_ptr<Warp[]> warps;
  // low half: threads that have not returned; high half: those of them that wait. Equal halves are a deadlock: a
  // waiting thread is taken off the count by whoever releases it, before it is released.
  std::atomic<std::uint64_t> population{0};
  std::atomic<bool> failed{false};
  std::mutex failure_mutex;
  std::exception_ptr failure;
};

Block* block = nullptr;
thread_local Thread self;

struct Abandoned {};  // unwinds the other threads of a block that has failed

constexpr std::uint64_t kOneWaiting = std::uint64_t{1} << 32;

void fail(std::exception_ptr failure) {
  const std::lock_guard lock(block->failure_mutex);
  if (!block->failure) block->failure = failure;
  block->failed.store(true, std::memory_order_relaxed);
}

void check_progress(std::uint64_t population) {
  const std::uint64_t waiting = population >> 32, live = population & 0xffffffffu;
  if (live != 0 && waiting == live) {
    fail(std::make_exception_ptr(Error("emulator: deadlock: " + std::to_string(live) + " of " +
                                       std::to_string(block->threads) +
                                       " threads wait for ever: a barrier was not reached by all threads")));
  }
}

// Called with the lock of the meeting held by a thread that is not the last to arrive.
void wait(Meeting& meeting, std::unique_lock<std::mutex>& lock) {
  const std::uint64_t generation = meeting.generation;
  check_progress(block->population.fetch_add(kOneWaiting, std::memory_order_relaxed) + kOneWaiting);
  while (meeting.generation == generation) {
    if (block->failed.load(std::memory_order_relaxed)) throw Abandoned{};
    meeting.released.wait_until(lock, std::chrono::system_clock::now() + std::chrono::milliseconds(100));
  }
}

void release(Meeting& meeting, unsigned waiters) {
  block->population.fetch_sub(kOneWaiting * waiters, std::memory_order_relaxed);
  ++meeting.generation;
  meeting.released.notify_all();
}

// Host threads that are kept: to start one costs a sanitizer a hundred times what waking it does. A worker is woken through
// a lock of its own, and takes the lock that all share only when its kernel is over: an order between two workers that
// the kernel did not make would hide a race.
class Workers {
 public:
  ~Workers() {
    for (auto& worker : workers_) worker->give(Task{});
  }

  // Calls work(index) for every index below `count`, each in a thread of its own, and returns when all have.
  template <typename Work>
  void run(unsigned count, const Work& work) {
    while (workers_.size() < count) workers_.push_back(std::make_unique<Worker>());
    unsigned running = count;
    for (unsigned index = 0; index < count; ++index) {
      workers_[index]->give([&, index] {
        work(index);
        const std::lock_guard lock(mutex_);
        if (--running == 0) all_done_.notify_one();
      });
    }
    std::unique_lock lock(mutex_);
    all_done_.wait(lock, [&] { return running == 0; });
  }

 private:
  using Task = std::function<void()>;  // an empty one ends the worker

  class Worker {
   public:
    void give(Task task) {
      const std::lock_guard lock(mutex_);
      task_ = std::move(task);
      given_ = true;
      woken_.notify_one();
    }

   private:
    Task take() {
      std::unique_lock lock(mutex_);
      woken_.wait(lock, [&] { return given_; });
      given_ = false;
      return std::move(task_);
    }

    std::mutex mutex_;
    std::condition_variable woken_;
    Task task_;
    bool given_ = false;
    std::jthread thread_{[this] {
      while (const Task task = take()) task();
    }};
  };

  std::vector<std::unique_ptr<Worker>> workers_;
  std::mutex mutex_;
  std::condition_variable all_done_;
};

}  // namespace

Thread& current() { return self; }

int block_sum(int value) {
  Meeting& meeting = block->barrier;
  std::unique_lock lock(block->barrier_mutex);
  meeting.sum += value;
  if (++meeting.arrived < block->threads) {
    wait(meeting, lock);
    return meeting.result;
  }
  meeting.result = meeting.sum;
  meeting.sum = 0;
  meeting.arrived = 0;
  release(meeting, block->threads - 1);
  return meeting.result;
}

void block_barrier() { block_sum(0); }

void warp_collective(unsigned mask, void* record, Combine combine) {
  const unsigned lanes = existing_lanes(mask, self.warp, block->threads);
  if ((lanes >> self.lane & 1) == 0) throw Error("emulator: a lane calls a warp operation whose mask leaves it out");
  Warp& warp = block->warps[self.warp];
  std::unique_lock lock(warp.mutex);
  Meeting& meeting = warp.meeting_of(lanes);
  meeting.arrived_lanes |= 1u << self.lane;
  meeting.records[self.lane] = record;
  if (meeting.arrived_lanes != lanes) {
    wait(meeting, lock);
    return;
  }
  combine(meeting.records);
  meeting.arrived_lanes = 0;
  std::memset(meeting.records, 0, sizeof(meeting.records));
  release(meeting, static_cast<unsigned>(__builtin_popcount(lanes)) - 1);
}

void run_grid(dim3 grid, dim3 block_size, size_t shared_bytes, void (*kernel)(void*), void* context) {
  static Workers workers;
  const unsigned threads = block_size.x * block_size.y * block_size.z;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        Block state;
        state.threads = threads;
        state.warps = std::make_unique<Warp[]>((threads + 31) / 32);
        state.population.store(threads, std::memory_order_relaxed);
        block = &state;
        // malloc to the byte: an access behind the end is AddressSanitizer's to see
        const std::unique_ptr<void, void (*)(void*)> shared(std::malloc(shared_bytes == 0 ? 1 : shared_bytes),
                                                            std::free);
        std::memset(shared.get(), 0xff, shared_bytes);
        workers.run(threads, [&](unsigned index) {
          place(self, index, {x, y, z}, block_size, grid, shared.get());
          try {
            kernel(context);
          } catch (const Abandoned&) {
          } catch (...) {
            fail(std::current_exception());
          }
          check_progress(state.population.fetch_sub(1, std::memory_order_relaxed) - 1);
        });
        block = nullptr;
        if (state.failure) std::rethrow_exception(state.failure);
      }
    }
  }
}

}  // namespace emulator
