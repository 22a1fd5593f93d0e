// Plain threads for the CPU launchers, so that ThreadSanitizer sees every one of them start and end. Their ranges are of
// uneven length and shorter than asked for: in small tests, too, a thread begins in the middle of a clip, a row or a video.
#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

#include "core/parallel.h"

class ThreadParallel final : public motionops::Parallel {
 public:
  explicit ThreadParallel(int threads) : threads_(threads) {}
  int threads() const override { return threads_; }

 protected:
  void run_ranges(int64_t begin, int64_t end, int64_t, RangeFunction function, void* context) const override {
    const int64_t count = std::min<int64_t>(threads_, end - begin);
    const auto cut = [&](int64_t range) {  // of three threads after 1/6 and 1/2, but everyone gets something
      return begin + std::max(range, (end - begin) * range * (range + 1) / (count * (count + 1)));
    };
    std::vector<std::thread> running;
    for (int64_t range = 0; range < count; ++range) {
      running.emplace_back(function, context, cut(range), cut(range + 1));
    }
    for (auto& thread : running) thread.join();
  }

 private:
  int threads_;
};

// The numbers of threads to test with: several are for ThreadSanitizer to watch, and one will do for AddressSanitizer.
inline std::vector<int> numbers_of_threads() {
#if defined(__SANITIZE_THREAD__)
  return {3};
#elif defined(__SANITIZE_ADDRESS__)
  return {1};
#else
  return {1, 3};
#endif
}
