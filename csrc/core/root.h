// Square roots of the device.
//   root(x)          of 0 exactly 0, of infinity infinity, of NaN NaN.
//   inverse_root(x)  1 / root(x), of infinity 0; that of 0 is finite, and so is that of NaN: times it, a vector of
//                    square x is its direction, and has none where it is 0, and keeps its NaN.
// Those of float are the unit's own, within one unit in the last place: IEEE's would be a branch each. Subnormal x
// count. Those of double are IEEE's. The host twin errs as far as the unit may, so that what does not bear it is seen.
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
  asm("rsqrt.approx.f32 %0, %1;" : "=f"(result) : "f"(fmaxf(x, FLT_TRUE_MIN)));
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
inline float inverse_root(float x) { return second_nearest(1 / std::sqrt(std::fmax(double{x}, double{FLT_TRUE_MIN}))); }

#endif

__device__ __forceinline__ double root(double x) { return sqrt(x); }
__device__ __forceinline__ double inverse_root(double x) { return 1 / sqrt(fmax(x, DBL_TRUE_MIN)); }

}  // namespace motionops
