// Which vector instructions a CPU kernel may use, decided when the program runs: one build serves every x86-64 (and, with
// the baseline alone, every other) machine. A kernel's code lives in an .inl that is compiled once for each target.
#pragma once

#include <cstdlib>
#include <string_view>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define MOTIONOPS_SIMD_X86 1
#else
#define MOTIONOPS_SIMD_X86 0
#endif

namespace motionops {

enum class SimdTarget { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

// The widest target that this machine runs.
inline SimdTarget supported_simd_target() {
#if MOTIONOPS_SIMD_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return SimdTarget::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return SimdTarget::kAvx2;
#endif
  return SimdTarget::kBaseline;
}

// The target in use: the widest supported one, or the narrower one that the environment variable MOTIONOPS_SIMD
// (baseline, avx2, avx512) asks for, so that every target can be tested on one machine. Read once.
inline SimdTarget simd_target() {
  static const SimdTarget target = [] {
    const SimdTarget supported = supported_simd_target();
    const char* wanted = std::getenv("MOTIONOPS_SIMD");
    const std::string_view name = wanted == nullptr ? "" : wanted;
    if (name == "baseline") return SimdTarget::kBaseline;
    if (name == "avx2" && supported >= SimdTarget::kAvx2) return SimdTarget::kAvx2;
    return supported;
  }();
  return target;
}

}  // namespace motionops
