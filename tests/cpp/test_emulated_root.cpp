// core/root.h's host twin: within one unit in the last place, and off by most of one wherever the result is no float.
#include <cfloat>
#include <initializer_list>

#include "check.h"
#include "core/root.h"

int main() {
  using motionops::inverse_root, motionops::reciprocal_of_normal, motionops::root, motionops::root_of_normal;
  constexpr double kUnit = 1.0 / (1 << 23);  // the largest relative error that PTX allows sqrt, rsqrt and rcp.approx
  for (const float x : {1e-42f, 3e-38f, 3e-7f, 2.0f, 25.5f, 1e30f, FLT_MAX}) {
    const double exact = std::sqrt(double{x}), error = std::fabs(root(x) / exact - 1);
    CHECK(error <= kUnit && error > kUnit / 4, "root(%g) is off by %g", x, error);
    const double inverse_error = std::fabs(inverse_root(x) * exact - 1);
    CHECK(inverse_error <= kUnit && inverse_error > kUnit / 4, "inverse_root(%g) is off by %g", x, inverse_error);
  }
  for (const float x : {3e-38f, -3e-7f, 3.0f, 25.5f, 1e30f}) {
    const double error = std::fabs(reciprocal_of_normal(x) * double{x} - 1);
    CHECK(error <= kUnit && error > kUnit / 4, "reciprocal_of_normal(%g) is off by %g", x, error);
  }
  CHECK(root(0.0f) == 0 && !std::signbit(root(0.0f)), "root(0) = %g", root(0.0f));
  CHECK(root(16.0f) == 4 && inverse_root(16.0f) == 0.25f, "powers of 4 have exact roots");
  CHECK(root(INFINITY) == INFINITY && inverse_root(INFINITY) == 0, "of infinity: %g, %g", root(INFINITY),
        inverse_root(INFINITY));
  CHECK(std::isnan(root(NAN)) && inverse_root(NAN) == 0, "of NaN: %g, %g", root(NAN), inverse_root(NAN));
  CHECK(inverse_root(0.0f) == 0 && inverse_root(0.0) == 0, "a vector of length 0 has no direction");
  CHECK(root_of_normal(25.5f) == root(25.5f) && root_of_normal(1e-42f) == 0, "subnormal x count as 0");
  CHECK(reciprocal_of_normal(4.0f) == 0.25f && reciprocal_of_normal(3.0) == 1 / 3.0, "powers of 2, and double");
  CHECK(reciprocal_of_normal(0.0f) == INFINITY && reciprocal_of_normal(1e-42f) == INFINITY, "of 0");
  CHECK(reciprocal_of_normal(INFINITY) == 0 && reciprocal_of_normal(3e38f) == 0, "of what is as large");
  CHECK(std::isnan(reciprocal_of_normal(NAN)) && std::isnan(root_of_normal(NAN)), "of NaN");
  CHECK(root(2.0) == std::sqrt(2.0) && inverse_root(4.0) == 0.5, "of double");
  return finish("root.h");
}
