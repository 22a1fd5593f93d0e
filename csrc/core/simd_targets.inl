// Compiles MOTIONOPS_SIMD_FILE once for each SIMD target, in the namespaces baseline, avx2 and avx512 of the place where
// this is included; MOTIONOPS_SIMD_CALL then calls a function of the file for the target in use. In the file,
// MOTIONOPS_VECTOR_BYTES is the width of a vector register and MOTIONOPS_VECTOR_REGISTERS the number of them. No include
// guard: a source includes it once a file.
//
//   #define MOTIONOPS_SIMD_FILE "flow/motion_map_cpu.inl"
//   #include "core/simd_targets.inl"
//   ...
//   MOTIONOPS_SIMD_CALL(map_rows(args, first, last));
namespace baseline {
#define MOTIONOPS_VECTOR_BYTES 16
#define MOTIONOPS_VECTOR_REGISTERS 16
#include MOTIONOPS_SIMD_FILE
#undef MOTIONOPS_VECTOR_BYTES
#undef MOTIONOPS_VECTOR_REGISTERS
}  // namespace baseline

#if MOTIONOPS_SIMD_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define MOTIONOPS_VECTOR_BYTES 32
#define MOTIONOPS_VECTOR_REGISTERS 16
#include MOTIONOPS_SIMD_FILE
#undef MOTIONOPS_VECTOR_BYTES
#undef MOTIONOPS_VECTOR_REGISTERS
}  // namespace avx2
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
namespace avx512 {
#define MOTIONOPS_VECTOR_BYTES 64
#define MOTIONOPS_VECTOR_REGISTERS 32
#include MOTIONOPS_SIMD_FILE
#undef MOTIONOPS_VECTOR_BYTES
#undef MOTIONOPS_VECTOR_REGISTERS
}  // namespace avx512
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#define MOTIONOPS_SIMD_CALL(...)                                               \
  do {                                                                         \
    if (::motionops::simd_target() == ::motionops::SimdTarget::kAvx512) {      \
      avx512::__VA_ARGS__;                                                     \
    } else if (::motionops::simd_target() == ::motionops::SimdTarget::kAvx2) { \
      avx2::__VA_ARGS__;                                                       \
    } else {                                                                   \
      baseline::__VA_ARGS__;                                                   \
    }                                                                          \
  } while (false)
#else
#define MOTIONOPS_SIMD_CALL(...) baseline::__VA_ARGS__
#endif  // MOTIONOPS_SIMD_X86
