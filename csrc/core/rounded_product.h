// a b, rounded before anything is added to it. Compilers fuse where the processor can, and which products they fuse
// would depend on what else a kernel or a loop computes, and the last bit with it.
#pragma once

#include <type_traits>

#ifdef __CUDACC__
#define MOTIONOPS_PRODUCT_FUNCTION __host__ __device__ __forceinline__
#else
#define MOTIONOPS_PRODUCT_FUNCTION inline
#endif

namespace motionops {

template <typename T>
MOTIONOPS_PRODUCT_FUNCTION T rounded_product(T a, T b) {
#ifdef __CUDA_ARCH__
  if constexpr (std::is_same_v<T, double>) {
    return __dmul_rn(a, b);
  } else {
    return __fmul_rn(a, b);
  }
#else
  const volatile T product = a * b;
  return product;
#endif
}

}  // namespace motionops
