// CUDA threads as fibers of one host thread, taken in turns. A switch costs some nanoseconds, so whole test lists run
// in seconds; the order of execution is fixed, so a failure repeats.
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>

#include "include/emulator.h"

// Saves the callee-saved registers and the stack pointer in *from, takes those of `to`, and returns there.
#if defined(__x86_64__)
#define MOTIONOPS_HAS_SWITCH 1
extern "C" void motionops_emulator_switch(void** from, void* to);
asm(R"(
.text
.globl motionops_emulator_switch
.hidden motionops_emulator_switch
.type motionops_emulator_switch, @function
motionops_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size motionops_emulator_switch, .-motionops_emulator_switch
)");
#endif

namespace emulator {
namespace {

constexpr size_t kStackBytes = 256 * 1024;  // mapped lazily; the lowest page is a guard

struct Meeting {  // lanes of one warp, or threads of one block, waiting for each other
  unsigned mask = 0;
  unsigned arrived = 0;
  void* records[32] = {};
};

struct Fiber {
  Thread thread;
  bool finished = true;
  unsigned char* stack = nullptr;
#ifdef MOTIONOPS_HAS_SWITCH
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif

  Fiber() {
    void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw Error("emulator: no memory for a fiber's stack");
    stack = static_cast<unsigned char*>(memory);
    mprotect(stack, 4096, PROT_NONE);
  }
  ~Fiber() { munmap(stack, kStackBytes); }
  Fiber(const Fiber&) = delete;
};

struct Block {
  std::vector<std::unique_ptr<Fiber>> fibers;  // kept between launches
  unsigned threads = 0;
  unsigned live = 0;
  std::deque<Fiber*> ready;
  unsigned at_barrier = 0;
  int barrier_sum = 0;
  int barrier_result = 0;
  std::vector<Fiber*> barrier_waiters;
  std::vector<std::vector<Meeting>> meetings;  // per warp, one for each mask that was used
  void (*kernel)(void*) = nullptr;
  void* context = nullptr;
  std::exception_ptr failure;
#ifdef MOTIONOPS_HAS_SWITCH
  void* scheduler_stack_pointer = nullptr;
#else
  ucontext_t scheduler;
#endif
};

Meeting& meeting_of(std::vector<Meeting>& meetings, unsigned lanes) {
  for (Meeting& meeting : meetings) {
    if (meeting.mask == lanes) return meeting;
  }
  return meetings.emplace_back(Meeting{lanes});
}

Block& block() {
  static Block instance;
  return instance;
}
Fiber* running = nullptr;

void to_scheduler() {
#ifdef MOTIONOPS_HAS_SWITCH
  motionops_emulator_switch(&running->stack_pointer, block().scheduler_stack_pointer);
#else
  swapcontext(&running->context, &block().scheduler);
#endif
}

void resume(Fiber* fiber) {
  running = fiber;
#ifdef MOTIONOPS_HAS_SWITCH
  motionops_emulator_switch(&block().scheduler_stack_pointer, fiber->stack_pointer);
#else
  swapcontext(&block().scheduler, &fiber->context);
#endif
}

void entry() {
  try {
    block().kernel(block().context);
  } catch (...) {
    if (!block().failure) block().failure = std::current_exception();
  }
  running->finished = true;
  --block().live;
  to_scheduler();
  std::abort();  // a finished fiber is never resumed
}

void prepare(Fiber& fiber) {
  fiber.finished = false;
#ifdef MOTIONOPS_HAS_SWITCH
  auto** top = reinterpret_cast<void**>(fiber.stack + kStackBytes);
  *--top = nullptr;  // the return address that entry() never uses; also aligns the stack as a call would
  *--top = reinterpret_cast<void*>(&entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  fiber.stack_pointer = top;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack = {fiber.stack, 0, kStackBytes};
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, reinterpret_cast<void (*)()>(&entry), 0);
#endif
}

[[noreturn]] void report_deadlock() {
  Block& b = block();
  std::string text = "emulator: deadlock: " + std::to_string(b.live) + " of " + std::to_string(b.threads) +
                     " threads wait for ever (" + std::to_string(b.at_barrier) + " at __syncthreads";
  for (size_t warp = 0; warp < b.meetings.size(); ++warp) {
    for (const Meeting& meeting : b.meetings[warp]) {
      if (meeting.arrived == 0) continue;
      char lanes[64];
      std::snprintf(lanes, sizeof(lanes), ", lanes %x of mask %x in warp %zu", meeting.arrived, meeting.mask, warp);
      text += lanes;
    }
  }
  throw Error(text + "): a barrier was not reached by all threads");
}

void run_block(uint3 block_index, dim3 block_size, dim3 grid, void* shared) {
  Block& b = block();
  b.live = b.threads;
  b.at_barrier = 0;
  b.barrier_sum = 0;
  b.barrier_waiters.clear();
  b.meetings.assign((b.threads + 31) / 32, {});
  b.ready.clear();
  b.failure = nullptr;
  for (unsigned index = 0; index < b.threads; ++index) {
    Fiber& fiber = *b.fibers[index];
    place(fiber.thread, index, block_index, block_size, grid, shared);
    prepare(fiber);
    b.ready.push_back(&fiber);
  }
  while (b.live != 0) {
    if (b.failure) std::rethrow_exception(b.failure);  // the other fibers are abandoned where they stand
    if (b.ready.empty()) report_deadlock();
    Fiber* next = b.ready.front();
    b.ready.pop_front();
    resume(next);
  }
  if (b.failure) std::rethrow_exception(b.failure);
}

}  // namespace

Thread& current() { return running->thread; }

int block_sum(int value) {
  Block& b = block();
  b.barrier_sum += value;
  if (++b.at_barrier < b.threads) {
    b.barrier_waiters.push_back(running);
    to_scheduler();
    return block().barrier_result;
  }
  b.barrier_result = b.barrier_sum;
  b.barrier_sum = 0;
  b.at_barrier = 0;
  b.ready.insert(b.ready.end(), b.barrier_waiters.begin(), b.barrier_waiters.end());
  b.barrier_waiters.clear();
  return b.barrier_result;
}

void block_barrier() { block_sum(0); }

void warp_collective(unsigned mask, void* record, Combine combine) {
  Block& b = block();
  Fiber* self = running;
  const Thread& thread = self->thread;
  const unsigned lanes = existing_lanes(mask, thread.warp, b.threads);
  if ((lanes >> thread.lane & 1) == 0) throw Error("emulator: a lane calls a warp operation whose mask leaves it out");
  Meeting& meeting = meeting_of(b.meetings[thread.warp], lanes);
  meeting.arrived |= 1u << thread.lane;
  meeting.records[thread.lane] = record;
  if (meeting.arrived != lanes) {
    to_scheduler();
    return;
  }
  combine(meeting.records);
  for (unsigned lane = 0; lane < 32; ++lane) {
    meeting.records[lane] = nullptr;
    if ((lanes >> lane & 1) && lane != thread.lane) b.ready.push_back(b.fibers[thread.warp * 32 + lane].get());
  }
  meeting.arrived = 0;
}

void run_grid(dim3 grid, dim3 block_size, size_t shared_bytes, void (*kernel)(void*), void* context) {
  Block& b = block();
  b.threads = block_size.x * block_size.y * block_size.z;
  b.kernel = kernel;
  b.context = context;
  while (b.fibers.size() < b.threads) b.fibers.push_back(std::make_unique<Fiber>());
  const std::unique_ptr<void, void (*)(void*)> shared(std::aligned_alloc(128, (shared_bytes + 127) / 128 * 128 + 128),
                                                      std::free);
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        std::memset(shared.get(), 0xff, shared_bytes);
        run_block({x, y, z}, block_size, grid, shared.get());
      }
    }
  }
}

}  // namespace emulator
