// Parallel loops for CPU launchers, without naming who owns the threads: the binding passes PyTorch's pool, a C++ program
// its own, and a test runs in line.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace motionops {

class Parallel {
 public:
  virtual ~Parallel() = default;

  // Number of threads that run() can use at the same time.
  virtual int threads() const = 0;

  // Calls body(first, last) on disjoint ranges that cover [begin, end), each of at least `grain` indices (but for the
  // last one), from any thread. Returns when all have returned; nested calls run in line.
  template <typename Body>
  void run(int64_t begin, int64_t end, int64_t grain, Body&& body) const {
    if (begin >= end) return;
    using Plain = std::remove_reference_t<Body>;
    run_ranges(
        begin, end, grain < 1 ? 1 : grain,
        [](void* context, int64_t first, int64_t last) { (*static_cast<Plain*>(context))(first, last); },
        const_cast<void*>(static_cast<const void*>(std::addressof(body))));
  }

 protected:
  using RangeFunction = void (*)(void* context, int64_t first, int64_t last);
  virtual void run_ranges(int64_t begin, int64_t end, int64_t grain, RangeFunction function, void* context) const = 0;
};

// Everything in the calling thread.
class SerialParallel final : public Parallel {
 public:
  int threads() const override { return 1; }

 protected:
  void run_ranges(int64_t begin, int64_t end, int64_t, RangeFunction function, void* context) const override {
    function(context, begin, end);
  }
};

}  // namespace motionops
