// What the bindings of operators over extents share.
#pragma once

#include <cmath>

#include "core/torch_binding.h"
#include "geometry/extent.h"

namespace motionops {

inline void check_extent_type(const char* op, const char* argument, const Tensor& extent) {
  const ScalarType type = type_of(extent);
  if (type != ScalarType::Float && type != ScalarType::Double) [[unlikely]] {
    check_type(false, op, argument, " must be float32 or float64, got ", dtype_name(type));
  }
}

// Refuses views without volume and values that are not finite; on a GPU that would wait for the device, so there they
// give NaN. `values` is contiguous float64 [..., 3, 2].
inline void check_volume(const char* op, const char* argument, const Tensor& values) {
  if (!values.is_cpu()) return;
  const auto* axis = data_of<double>(values);
  for (int64_t place = 0, count = values.numel(); place < count; place += 2) {
    const double length = axis[place + 1] - axis[place];
    if (!std::isfinite(length) || length == 0) [[unlikely]] {
      check_value(false, op, argument, " must have a finite length other than 0 along every axis, got ", axis[place],
                  " to ", axis[place + 1], " along ", "tyx"[place / 2 % 3], " of view ", place / 6);
    }
  }
}

}  // namespace motionops
