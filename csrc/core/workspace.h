// Cuts one allocation into aligned arrays. Built on null it only counts, so that the size that is asked for and the
// layout that is used come from the same code.
#pragma once

#include <cstddef>
#include <cstdint>

namespace motionops {

class Workspace {
 public:
  explicit Workspace(void* base) : base_(static_cast<unsigned char*>(base)) {}

  template <typename T>
  T* take(int64_t count) {
    constexpr size_t kAlignment = 256;
    auto* place = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + bytes_);
    bytes_ += (static_cast<size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return place;
  }

  size_t bytes() const { return bytes_; }

 private:
  unsigned char* base_;
  size_t bytes_ = 0;
};

}  // namespace motionops
