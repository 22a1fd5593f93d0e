// Vectors of the SIMD target and their exponential: included by an .inl that core/simd_targets.inl compiles once for each
// target, inside its namespace. No include guard.

// One vector of the target. The unaligned type is for loads and stores; it also may alias.
template <typename T>
struct Simd;

template <>
struct Simd<float> {
  typedef float Vector __attribute__((vector_size(MOTIONOPS_VECTOR_BYTES)));
  typedef float Unaligned __attribute__((vector_size(MOTIONOPS_VECTOR_BYTES), aligned(4), may_alias));
  typedef uint32_t Bits __attribute__((vector_size(MOTIONOPS_VECTOR_BYTES)));
  static constexpr int64_t kLanes = MOTIONOPS_VECTOR_BYTES / 4;
  static constexpr float kLog2E = 1.44269504088896340736f;
  // ln 2 in two parts; the high one has trailing zeros, so that n · high is exact.
  static constexpr float kLn2High = 0.693359375f;
  static constexpr float kLn2Low = -2.12194440e-4f;
  static constexpr float kRound = 12582912.0f;      // 1.5 · 2^23: adding it rounds to an integer in the low bits
  static constexpr float kSmallest = -87.3365447f;  // below it e^x is subnormal, taken as 0
  static constexpr int kMantissa = 23;
  static constexpr uint32_t kBias = 127;
  static constexpr int kDegree = 7;  // |x| <= ln 2 / 2: the next Taylor term is below 2^-27
};

template <>
struct Simd<double> {
  typedef double Vector __attribute__((vector_size(MOTIONOPS_VECTOR_BYTES)));
  typedef double Unaligned __attribute__((vector_size(MOTIONOPS_VECTOR_BYTES), aligned(8), may_alias));
  typedef uint64_t Bits __attribute__((vector_size(MOTIONOPS_VECTOR_BYTES)));
  static constexpr int64_t kLanes = MOTIONOPS_VECTOR_BYTES / 8;
  static constexpr double kLog2E = 1.44269504088896340736;
  static constexpr double kLn2High = 6.93145751953125e-1;
  static constexpr double kLn2Low = 1.42860682030941723212e-6;
  static constexpr double kRound = 6755399441055744.0;  // 1.5 · 2^52
  static constexpr double kSmallest = -708.3964185322641;
  static constexpr int kMantissa = 52;
  static constexpr uint64_t kBias = 1023;
  static constexpr int kDegree = 13;
};

template <typename T>
inline __attribute__((always_inline)) typename Simd<T>::Vector load(const T* from) {
  return *reinterpret_cast<const typename Simd<T>::Unaligned*>(from);
}

template <typename T>
inline __attribute__((always_inline)) void store(T* to, typename Simd<T>::Vector value) {
  *reinterpret_cast<typename Simd<T>::Unaligned*>(to) = value;
}

template <typename T>
inline __attribute__((always_inline)) typename Simd<T>::Vector broadcast(T value) {
  // x − 0 is x for every x, x + 0 is not for −0: that sum would be taken, in a unit that the products want.
  return value - typename Simd<T>::Vector{};
}

// 1/n!, highest power first is evaluated by Horner's rule.
template <typename T>
struct Factorials {
  T inverse[14];
  constexpr Factorials() : inverse{} {
    T factorial = 1;
    inverse[0] = 1;
    for (int n = 1; n < 14; ++n) {
      factorial *= static_cast<T>(n);
      inverse[n] = T(1) / factorial;
    }
  }
};

// e^x for x up to about 88 (708), within 2 units in the last place; 0 below the smallest normal number; NaN gives NaN.
template <typename T>
inline __attribute__((always_inline)) typename Simd<T>::Vector exponential(typename Simd<T>::Vector x) {
  using S = Simd<T>;
  using Vector = typename S::Vector;
  using Bits = typename S::Bits;
  constexpr Factorials<T> kFactorials;
  const Vector smallest = broadcast<T>(S::kSmallest);
  // NaN compares false, and so stays.
  const Vector bounded = x < smallest ? smallest : x;
  const Vector shifted = bounded * S::kLog2E + S::kRound;
  const Vector n = shifted - S::kRound;
  const Vector rest = (bounded - n * S::kLn2High) - n * S::kLn2Low;
  Vector power = broadcast<T>(kFactorials.inverse[S::kDegree]);
#pragma GCC unroll 13
  for (int k = S::kDegree - 1; k >= 0; --k) power = power * rest + kFactorials.inverse[k];
  const Bits exponent = (reinterpret_cast<Bits>(shifted) + S::kBias) << S::kMantissa;
  const Vector result = power * reinterpret_cast<Vector>(exponent);
  return x < smallest ? Vector{} : result;
}
