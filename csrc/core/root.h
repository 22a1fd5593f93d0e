// Square roots and reciprocals of the device.
//   root(x)          of 0 exactly 0, of infinity infinity, of NaN NaN.
//   inverse_root(x)  1 / root(x), of infinity 0, and of 0 and NaN 0 too: times it, a vector of square x is its
//                    direction, has none where it is 0, and keeps its NaN without handing it to its other components.
//   root_of_normal(x), reciprocal_of_normal(x)   of subnormal x or with a subnormal result as of 0: the unit alone, where
//                    that makes no difference; the others take two multiplications and a comparison to count them.
// Those of float are the unit's own, within one unit in the last place: IEEE's would be a branch each. Those of double are IEEE's. The host twin errs as far as the unit may, so that what does not bear it is seen.
#pragma once

#include <cuda_runtime.h>

#include <cfloat>
#include <cmath>

namespace motionops {

#ifdef __CUDACC__

__device__ __forceinline__ float root(float x) {
  float result;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ __forceinline__ float inverse_root(float x) {
  float result;
  asm("rsqrt.approx.f32 %0, %1;" : "=f"(result) : "f"(x));
  return x > 0.0f ? result : 0.0f;
}

__device__ __forceinline__ float root_of_normal(float x) {
  float result;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

__device__ __forceinline__ float reciprocal_of_normal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

#else

// The float next to `exact` that is not the nearest; exact itself where it is a float.
inline float second_nearest(double exact) {
  const auto nearest = static_cast<float>(exact);
  if (!(std::fabs(exact) < INFINITY) || nearest == exact) return nearest;
  return std::nextafter(nearest, nearest < exact ? INFINITY : -INFINITY);
}

inline float root(float x) { return second_nearest(std::sqrt(double{x})); }
inline float inverse_root(float x) { return x > 0.0f ? second_nearest(1 / std::sqrt(double{x})) : 0.0f; }
inline float flushed(float x) { return std::fabs(x) < FLT_MIN ? std::copysign(0.0f, x) : x; }
inline float root_of_normal(float x) { return root(flushed(x)); }
inline float reciprocal_of_normal(float x) { return flushed(second_nearest(1 / double{flushed(x)})); }

#endif

__device__ __forceinline__ double root(double x) { return sqrt(x); }
__device__ __forceinline__ double inverse_root(double x) { return x > 0 ? 1 / sqrt(x) : 0.0; }
__device__ __forceinline__ double root_of_normal(double x) { return sqrt(x); }
__device__ __forceinline__ double reciprocal_of_normal(double x) { return 1 / x; }

}  // namespace motionops
