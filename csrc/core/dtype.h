// The element types that operators take, as storage on the host, and their conversions to what sums are computed in.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

namespace motionops {

enum class Dtype { kFloat32, kFloat64, kFloat16, kBFloat16 };

// Storage of 16-bit floats on the host. The conversions have no branch, so that loops over them vectorise.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// What values of type T are computed in.
template <typename T>
using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;

inline float widen(float value) { return value; }
inline double widen(double value) { return value; }

inline float widen(BFloat16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

inline float widen(Float16 value) {
  const uint32_t magnitude = (value.bits & 0x7fffu) << 13;
  // Shifted into place, the exponent is 112 too small, and that of infinity and NaN another 112. A subnormal is given the
  // first bit of 2^-14, which is taken off again as a float: no float here is subnormal, which the host may flush to 0.
  const float subnormal = std::bit_cast<float>(magnitude + 0x38800000u) - std::bit_cast<float>(0x38800000u);
  uint32_t bits = magnitude + (magnitude >= 0x0f800000u ? 0x70000000u : 0x38000000u);
  bits = magnitude < 0x00800000u ? std::bit_cast<uint32_t>(subnormal) : bits;
  return std::bit_cast<float>(bits | (value.bits & 0x8000u) << 16);
}

// To nearest, ties to even.
template <typename T>
T narrow(Wide<T> value) {
  return value;
}
template <>
inline BFloat16 narrow<BFloat16>(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return {static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded)};
}
template <>
inline Float16 narrow<Float16>(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  // Normal results: rebias the exponent by -112 and round off 13 bits. Overflow runs into the infinity by itself.
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  // Subnormal results: adding 0.5 lets the float unit round at 2^-24, the weight of half's last bit.
  const uint32_t subnormal = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x477ff000u ? 0x7c00u : half;
  half = magnitude > 0x7f800000u ? 0x7e00u : half;
  return {static_cast<uint16_t>(half | (bits >> 16 & 0x8000u))};
}

// Calls function.template operator()<T>() with the storage type of `dtype`.
template <typename Function>
void for_dtype(Dtype dtype, Function&& function) {
  switch (dtype) {
    case Dtype::kFloat32:
      return function.template operator()<float>();
    case Dtype::kFloat64:
      return function.template operator()<double>();
    case Dtype::kFloat16:
      return function.template operator()<Float16>();
    case Dtype::kBFloat16:
      return function.template operator()<BFloat16>();
  }
}

}  // namespace motionops
