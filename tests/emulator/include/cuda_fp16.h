// Stands in for CUDA's header of this name: IEEE half precision as 16 bits, conversions rounding to nearest even.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

struct __half {
  std::uint16_t bits;
};

struct alignas(4) __half2 {
  __half x, y;
};

inline float __half2float(__half value) {
  const int exponent = value.bits >> 10 & 31, fraction = value.bits & 1023;
  float magnitude;
  if (exponent == 31) {
    magnitude = fraction == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(fraction), -24);
  } else {
    magnitude = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  }
  return value.bits & 0x8000 ? -magnitude : magnitude;
}
inline __half __float2half_rn(float value) {
  const auto sign = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16 & 0x8000);
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return {0x7fff};
  if (magnitude >= 65520.0f) return {static_cast<std::uint16_t>(sign | 0x7c00)};
  if (magnitude == 0.0f) return {sign};
  int exponent = 0;
  std::frexp(magnitude, &exponent);                // magnitude in [0.5, 1) * 2^exponent
  const int scale = std::max(exponent - 11, -24);  // weight of the last kept bit
  // nearbyint rounds to even; a carry into the next exponent falls out of the addition below
  const int kept = static_cast<int>(std::nearbyint(std::ldexp(magnitude, -scale)));
  const int bits = scale == -24 && kept < 1024 ? kept : ((scale + 25) << 10) + (kept - 1024);
  return {static_cast<std::uint16_t>(sign | bits)};
}
inline __half __float2half(float value) { return __float2half_rn(value); }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
