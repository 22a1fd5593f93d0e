// core/root.h's host twin: within one unit in the last place, and off by most of one wherever the root is no float.
#include <cfloat>
#include <initializer_list>

#include "check.h"
#include "core/root.h"

int main() {
  using motionops::inverse_root, motionops::root;
  constexpr double kUnit = 1.0 / (1 << 23);  // the largest relative error that PTX allows sqrt.approx and rsqrt.approx
  for (const float x : {1e-42f, 3e-38f, 3e-7f, 2.0f, 25.5f, 1e30f, FLT_MAX}) {
    const double exact = std::sqrt(double{x}), error = std::fabs(root(x) / exact - 1);
    CHECK(error <= kUnit && error > kUnit / 4, "root(%g) is off by %g", x, error);
    const double inverse_error = std::fabs(inverse_root(x) * exact - 1);
    CHECK(inverse_error <= kUnit && inverse_error > kUnit / 4, "inverse_root(%g) is off by %g", x, inverse_error);
  }
  CHECK(root(0.0f) == 0 && !std::signbit(root(0.0f)), "root(0) = %g", root(0.0f));
  CHECK(root(16.0f) == 4 && inverse_root(16.0f) == 0.25f, "powers of 4 have exact roots");
  CHECK(root(INFINITY) == INFINITY && inverse_root(INFINITY) == 0, "of infinity: %g, %g", root(INFINITY),
        inverse_root(INFINITY));
  CHECK(std::isnan(root(NAN)) && inverse_root(NAN) == 0, "of NaN: %g, %g", root(NAN), inverse_root(NAN));
  CHECK(inverse_root(0.0f) == 0 && inverse_root(0.0) == 0, "a vector of length 0 has no direction");
  CHECK(root(2.0) == std::sqrt(2.0) && inverse_root(4.0) == 0.5, "of double");
  return finish("root.h");
}
