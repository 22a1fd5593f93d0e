// Features as they lie in memory: of a type of their own, rounded to that of the products as they are read. Gradients are
// written in the type of what they are the gradient of, and that of the loss is read as it comes.
#pragma once

#include <optional>

#include "core/dtype.h"

namespace motionops {

// Types that are not said: features are of the products' type, gradients of the type in which sums are kept.
struct StoredTypes {
  std::optional<Dtype> query = {}, key = {}, extra = {};
  std::optional<Dtype> grad_loss = {}, grad_query = {}, grad_key = {};
};

inline Dtype accumulation_dtype(Dtype products) {
  return products == Dtype::kFloat64 ? Dtype::kFloat64 : Dtype::kFloat32;
}

}  // namespace motionops
