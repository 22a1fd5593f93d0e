// Plain threads for the CPU launchers, so that ThreadSanitizer sees every one of them start and end.
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
  void run_ranges(int64_t begin, int64_t end, int64_t grain, RangeFunction function, void* context) const override {
    const int64_t step = std::max(grain, (end - begin + threads_ - 1) / threads_);
    std::vector<std::thread> running;
    for (int64_t first = begin; first < end; first += step) {
      running.emplace_back(function, context, first, std::min(first + step, end));
    }
    for (auto& thread : running) thread.join();
  }

 private:
  int threads_;
};
