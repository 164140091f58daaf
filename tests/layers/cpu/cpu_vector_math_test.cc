// The CPU backend's own exp and its relatives against the standard library's in double.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "layers/cpu/vector_math.h"

namespace convoy::cpu {
namespace {

// The largest relative error over both signs of numbers from 1e-6 to `largest`, 1 % apart.
template <typename Function, typename Reference>
double WorstError(float largest, Function function, Reference reference) {
  double worst = 0;
  for (float x = 1e-6f; x <= largest; x *= 1.01f) {
    for (const float signed_x : {x, -x}) {
      const double want = reference(static_cast<double>(signed_x));
      const double got = static_cast<double>(function(signed_x));
      worst = std::max(worst, std::abs(got - want) / std::abs(want));
    }
  }
  return worst;
}

// What the header promises.
constexpr double kAllowed = 3e-7;

TEST(CpuVectorMath, IsExactToTheLastDigits) {
  EXPECT_LT(WorstError(87, Exp, [](double x) { return std::exp(x); }), kAllowed);
  EXPECT_LT(WorstError(87, ExpMinusOne, [](double x) { return std::expm1(x); }), kAllowed);
  EXPECT_LT(WorstError(87, Tanh, [](double x) { return std::tanh(x); }), kAllowed);
  EXPECT_LT(WorstError(87, Sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }), kAllowed);
}

TEST(CpuVectorMath, StaysFiniteAtTheEnds) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float x : {infinity, 1e30f, 1000.0f}) {
    EXPECT_EQ(Tanh(x), 1);
    EXPECT_EQ(Tanh(-x), -1);
    EXPECT_EQ(Sigmoid(x), 1);
    EXPECT_LT(Sigmoid(-x), 1e-37f);
    EXPECT_LT(Exp(-x), 1e-37f);
    EXPECT_EQ(ExpMinusOne(-x), -1);
    EXPECT_TRUE(std::isfinite(Exp(x)));
  }
  EXPECT_EQ(Tanh(0), 0);
  EXPECT_EQ(Exp(0), 1);
}

TEST(CpuVectorMath, KeepsNotANumber) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(Exp(nan)));
  EXPECT_TRUE(std::isnan(ExpMinusOne(nan)));
  EXPECT_TRUE(std::isnan(Tanh(nan)));
  EXPECT_TRUE(std::isnan(Sigmoid(nan)));
}

}  // namespace
}  // namespace convoy::cpu
