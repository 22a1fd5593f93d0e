// Features and gradients in memory of another type than that in which the CPU's passes work.
#pragma once

#include <cstdint>
#include <optional>
#include <type_traits>
#include <vector>

#include "contrast/stored_features.h"
#include "contrast/streaming_softmax_cpu.h"
#include "core/dtype.h"
#include "core/parallel.h"

namespace motionops {

inline constexpr int64_t kValuesPerTask = 1 << 15;  // of a loop over single values

// Features as the products see them: as they lie in memory, or, where they lie there in another type, a copy as T, each
// value rounded to the products' type.
template <typename T>
class ProductFeatures {
 public:
  ProductFeatures(const void* data, std::optional<Dtype> stored, int64_t values, Dtype products,
                  const Parallel& parallel)
      : data_(data), dtype_(products) {
    if (stored.value_or(products) == products || values == 0) return;
    copy_.resize(values);
    for_dtype(*stored, [&]<typename Stored>() {
      for_dtype(products, [&]<typename Product>() {
        const auto* from = static_cast<const Stored*>(data);
        parallel.run(0, values, kValuesPerTask, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            copy_[i] = static_cast<T>(widen(narrow<Product>(static_cast<Wide<Product>>(widen(from[i])))));
          }
        });
      });
    });
    data_ = copy_.data();
    dtype_ = std::is_same_v<T, double> ? Dtype::kFloat64 : Dtype::kFloat32;
  }
  ProductFeatures(const ProductFeatures&) = delete;
  ProductFeatures& operator=(const ProductFeatures&) = delete;

  const void* data() const { return data_; }
  Dtype dtype() const { return dtype_; }
  FeatureRows rows(int64_t count, const int64_t* index = nullptr) const { return {data_, dtype_, count, index}; }

 private:
  const void* data_;
  Dtype dtype_;
  std::vector<T> copy_;
};

// A gradient that is summed up as T, and goes to memory in its own type when store() is called.
template <typename T>
class StoredGradient {
 public:
  StoredGradient(void* data, std::optional<Dtype> stored, int64_t values)
      : data_(data), dtype_(stored.value_or(kOwn)), sums_(data == nullptr || dtype_ == kOwn ? 0 : values) {}

  T* sums() { return dtype_ == kOwn ? static_cast<T*>(data_) : sums_.data(); }

  void store(const Parallel& parallel) const {
    if (dtype_ == kOwn) return;
    for_dtype(dtype_, [&]<typename Stored>() {
      auto* to = static_cast<Stored*>(data_);
      parallel.run(0, static_cast<int64_t>(sums_.size()), kValuesPerTask, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) to[i] = narrow<Stored>(static_cast<Wide<Stored>>(sums_[i]));
      });
    });
  }

 private:
  static constexpr Dtype kOwn = std::is_same_v<T, double> ? Dtype::kFloat64 : Dtype::kFloat32;
  void* data_;
  Dtype dtype_;
  std::vector<T> sums_;
};

// The gradient of the loss, one value.
template <typename T>
T stored_scalar(const void* data, std::optional<Dtype> stored) {
  T value{};
  for_dtype(stored.value_or(std::is_same_v<T, double> ? Dtype::kFloat64 : Dtype::kFloat32),
            [&]<typename Stored>() { value = static_cast<T>(widen(*static_cast<const Stored*>(data))); });
  return value;
}

}  // namespace motionops
