#include "core/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/error.h"

namespace convoy {
namespace {

// Known answers published with the reference implementation (Random123, kat_vectors, philox4x32
// 10).
TEST(Philox, GivesThePublishedKnownAnswers) {
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}),
            (RandomWords{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (RandomWords{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (RandomWords{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomBlock, EveryCoordinateChangesTheDraw) {
  const RandomKey base{
      .seed = 1, .purpose = Purpose::kCrop, .stream = 2, .epoch = 3, .position = 4};
  std::set<RandomWords> seen{RandomBlock(base, 0), RandomBlock(base, 1)};
  RandomKey key = base;
  key.seed = uint64_t{1} << 40;
  seen.insert(RandomBlock(key));
  key = base;
  key.purpose = Purpose::kMirror;
  seen.insert(RandomBlock(key));
  key = base;
  key.stream = 5;
  seen.insert(RandomBlock(key));
  key = base;
  key.epoch = 6;
  seen.insert(RandomBlock(key));
  key = base;
  key.position = uint64_t{7} << 32;
  seen.insert(RandomBlock(key));
  EXPECT_EQ(seen.size(), 7u);
}

TEST(RandomBlock, RefusesCoordinatesThatWouldOverlapOthers) {
  EXPECT_THROW(RandomBlock({.stream = 1u << 24}), Error);
  EXPECT_THROW(RandomBlock({.epoch = 1u << 20}), Error);
  EXPECT_THROW(RandomBlock({.position = uint64_t{1} << 44}), Error);
}

// The mean of n uniforms has standard deviation 1 / sqrt(12 n) = 0.0009 at n = 100,000; the bounds
// are five of them. The draws are fixed by the seed, so the test cannot fail by chance.
TEST(RandomBlock, UniformsAndNormalsHaveTheirMoments) {
  constexpr int kDraws = 100000;
  double uniform = 0, normal = 0, square = 0, third = 0;
  for (int i = 0; i < kDraws; ++i) {
    const RandomWords words = RandomBlock({.seed = 9, .position = static_cast<uint64_t>(i)});
    uniform += ToUniform(words[0]);
    const auto [a, b] = ToNormals(words);
    normal += (a + b) / 2;
    square += (a * a + b * b) / 2;
    third += (a * a * a + b * b * b) / 2;
  }
  EXPECT_NEAR(uniform / kDraws, 0.5, 0.0046);
  EXPECT_NEAR(normal / kDraws, 0, 5 / std::sqrt(2.0 * kDraws));
  EXPECT_NEAR(square / kDraws, 1, 5 * std::sqrt(2 / (2.0 * kDraws)));
  EXPECT_NEAR(third / kDraws, 0, 5 * std::sqrt(15 / (2.0 * kDraws)));
}

TEST(ToBelow, StaysBelowTheBoundAndReachesBothEnds) {
  EXPECT_EQ(ToBelow(0, 33), 0u);
  EXPECT_EQ(ToBelow(0xffffffff, 33), 32u);
  EXPECT_EQ(ToBelow(0xffffffff, 1), 0u);
}

}  // namespace
}  // namespace convoy
