// Conversions of the 16-bit types: all 65536 values, and rounding of the floats between them.
#include <cmath>
#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "check.h"
#include "core/dtype.h"

namespace {

// The value that the bits stand for, by the definition of the format.
double value_of(uint16_t bits, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits & 0x7fff) >> fraction_bits, fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction == 0 ? sign * INFINITY : NAN;
  const double significand = exponent == 0 ? fraction : fraction + (1 << fraction_bits);
  return sign * std::ldexp(significand, (exponent == 0 ? 1 : exponent) - bias - fraction_bits);
}

template <typename T>
void check_all(int exponent_bits) {
  for (int bits = 0; bits < 65536; ++bits) {
    const T stored{static_cast<uint16_t>(bits)};
    const double wanted = value_of(stored.bits, exponent_bits);
    const float widened = motionops::widen(stored);
    CHECK(close_to(widened, wanted, 0), "widen(%04x): %g instead of %g", bits, widened, wanted);
    if (std::isnan(wanted)) {
      CHECK(std::isnan(motionops::widen(motionops::narrow<T>(widened))), "NaN %04x is lost", bits);
      continue;
    }
    CHECK(motionops::narrow<T>(widened).bits == bits, "narrow(widen(%04x)) is another value", bits);
    const T next{static_cast<uint16_t>(bits + 1)};
    if ((bits & 0x7fff) == 0x7fff || !std::isfinite(value_of(next.bits, exponent_bits)) || !std::isfinite(wanted))
      continue;
    // half way to the next value goes to the even one; a little less or more goes to the nearer
    const double middle = (wanted + value_of(next.bits, exponent_bits)) / 2;
    const auto narrowed = [](double value) { return motionops::narrow<T>(static_cast<float>(value)).bits; };
    const uint16_t even = bits % 2 == 0 ? stored.bits : next.bits;
    CHECK(narrowed(middle) == even, "half way from %04x: %04x instead of %04x", bits, narrowed(middle), even);
    if (std::fpclassify(static_cast<float>(middle)) != FP_NORMAL) continue;
    const float outwards =
        std::nextafterf(static_cast<float>(middle), static_cast<float>(std::copysign(INFINITY, middle)));
    const float inwards = std::nextafterf(static_cast<float>(middle), 0.0f);
    CHECK(narrowed(outwards) == next.bits, "just beyond half way from %04x", bits);
    CHECK(narrowed(inwards) == stored.bits, "just before half way from %04x", bits);
  }
}

}  // namespace

int main() {
  check_all<motionops::BFloat16>(8);
  check_all<motionops::Float16>(5);
#if defined(__x86_64__)
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040);  // as torch.set_flush_denormal: subnormal floats are 0, and no half is one
  check_all<motionops::Float16>(5);
  _mm_setcsr(before);
#endif
  CHECK(motionops::narrow<motionops::Float16>(65519.0f).bits == 0x7bff, "the largest float16");
  CHECK(motionops::narrow<motionops::Float16>(65520.0f).bits == 0x7c00, "overflow of float16");
  CHECK(motionops::narrow<motionops::Float16>(-1e30f).bits == 0xfc00, "overflow of float16");
  return finish("dtype");
}
