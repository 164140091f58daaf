#include "dataloader/crops/crop_plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "dataloader/crops/colour.h"
#include "dataloader/loading/permutation.h"
#include "tests/dataloader/support.h"

namespace convoy {
namespace {

TEST(CentreOffset, RoundsHalvesToEvenAsPythonDoes) {
  EXPECT_EQ(CentreOffset(117), 58);   // 58.5
  EXPECT_EQ(CentreOffset(243), 122);  // 121.5
  EXPECT_EQ(CentreOffset(32), 16);
  EXPECT_EQ(CentreOffset(1), 0);
  EXPECT_EQ(CentreOffset(3), 2);
  EXPECT_EQ(CentreOffset(0), 0);
}

TEST(PlanWhole, TruncatesTheLongSide) {
  EXPECT_EQ(PlanWhole(500, 375, 256).resized_width, 341);
  EXPECT_EQ(PlanWhole(375, 500, 256).resized_height, 341);
  EXPECT_EQ(PlanWhole(1, 2000, 256).resized_height, 512000);
  EXPECT_EQ(PlanWhole(65535, 1, 256).resized_width, 65535 * 256);
}

TEST(PlanCrops, RandomPlacesOfTheSquareAre33By33AndAllAreReached) {
  const CropOptions options{.geometry = Geometry::kSquare2012};
  std::set<std::pair<int64_t, int64_t>> places;
  int64_t mirrored = 0;
  constexpr int64_t kDraws = 20000;
  for (int64_t position = 0; position < kDraws; ++position) {
    const CropPlan plan = PlanCrops(500, 375, options, {.seed = 5, .position = position});
    // 341 x 256; the centre square starts at 42.
    EXPECT_GE(plan.places[0].x, 42);
    EXPECT_LE(plan.places[0].x, 42 + 32);
    EXPECT_GE(plan.places[0].y, 0);
    EXPECT_LE(plan.places[0].y, 32);
    places.emplace(plan.places[0].x, plan.places[0].y);
    mirrored += plan.places[0].mirror;
  }
  // Each of the 1089 is missed with probability exp(-18.4).
  EXPECT_EQ(places.size(), 33u * 33u);
  // Five standard deviations of a fair coin.
  EXPECT_NEAR(static_cast<double>(mirrored), kDraws / 2.0, 5 * std::sqrt(kDraws) / 2);
}

TEST(PlanCrops, TheRectangleIsCoveredFromEndToEnd) {
  const CropOptions options{.geometry = Geometry::kRectangle};
  std::set<int64_t> x, y;
  for (int64_t position = 0; position < 5000; ++position) {
    const CropPlan plan = PlanCrops(500, 375, options, {.position = position});
    x.insert(plan.places[0].x);
    y.insert(plan.places[0].y);
  }
  EXPECT_EQ(*x.begin(), 0);
  EXPECT_EQ(*x.rbegin(), 341 - 224);
  EXPECT_EQ(x.size(), 118u);
  EXPECT_EQ(y.size(), 33u);
}

TEST(PlanCrops, SquashMakesBothSidesEqual) {
  const CropPlan plan = PlanCrops(500, 100, {.geometry = Geometry::kSquash, .random = false}, {});
  EXPECT_EQ(plan.resized_width, 256);
  EXPECT_EQ(plan.resized_height, 256);
  EXPECT_EQ(plan.places[0].x, 16);
  EXPECT_EQ(plan.places[0].y, 16);
}

TEST(PlanCrops, DependsOnSeedEpochAndPosition) {
  const CropOptions options{.geometry = Geometry::kRectangle};
  const auto differs = [&](const CropKey& key) {
    int64_t count = 0;
    for (int64_t i = 0; i < 20; ++i) {
      const CropPlan base = PlanCrops(900, 300, options, {.seed = 1, .epoch = 2, .position = i});
      const CropPlan other = PlanCrops(900, 300, options, {key.seed, key.epoch, key.position + i});
      count += base.places[0].x != other.places[0].x;
    }
    return count;
  };
  EXPECT_EQ(differs({1, 2, 0}), 0);
  EXPECT_GT(differs({2, 2, 0}), 10);
  EXPECT_GT(differs({1, 3, 0}), 10);
  EXPECT_GT(differs({1, 2, 100}), 10);
}

TEST(PlanCrops, TenViewsAreCornersAndCentreThenMirrored) {
  for (const Geometry geometry : {Geometry::kSquare2012, Geometry::kRectangle}) {
    const CropPlan plan =
        PlanCrops(500, 375, {.geometry = geometry, .random = false, .views = 10}, {});
    const int64_t left = geometry == Geometry::kSquare2012 ? 42 : 0;
    const int64_t right = geometry == Geometry::kSquare2012 ? 42 + 32 : 341 - 224;
    const std::pair<int64_t, int64_t> expected[5] = {
        {left, 0}, {right, 0}, {left, 32}, {right, 32}, {58, 16}};
    ASSERT_EQ(plan.views, 10);
    for (size_t i = 0; i < 10; ++i) {
      EXPECT_EQ(plan.places[i].x, expected[i % 5].first) << i;
      EXPECT_EQ(plan.places[i].y, expected[i % 5].second) << i;
      EXPECT_EQ(plan.places[i].mirror, i >= 5) << i;
    }
  }
}

// Shifts of one standard deviation at strength 0.1, in pixel levels.
TEST(Colour, ShiftsHaveThePublishedSizes) {
  const double expected_2012[3] = {12.18, 3.71, 1.97}, expected_lighting[3] = {5.55, 0.48, 0.11};
  const auto own = ColourComponents(ColourNoise::k2012);
  const auto lighting = ColourComponents(ColourNoise::kLighting);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(0.1 * own[i].size, expected_2012[i], 0.005);
    EXPECT_NEAR(0.1 * lighting[i].size, expected_lighting[i], 0.006);
    for (const auto& components : {own, lighting}) {
      double square = 0, product = 0;
      for (size_t c = 0; c < 3; ++c) {
        square += components[i].direction[c] * components[i].direction[c];
        product += components[i].direction[c] * components[(i + 1) % 3].direction[c];
      }
      EXPECT_NEAR(square, 1, 1e-3);  // printed with four digits
      EXPECT_NEAR(product, 0, 1e-3);
    }
  }
  EXPECT_NEAR(own[0].size / lighting[0].size, 2.2, 0.05);
  EXPECT_NEAR(own[1].size / lighting[1].size, 7.7, 0.05);
  EXPECT_NEAR(own[2].size / lighting[2].size, 17, 0.5);
}

// The covariance of many shifts is strength^2 * sum of size_i^2 direction_i direction_i'.
TEST(Colour, DrawsHaveTheCovarianceOfTheComponents) {
  constexpr int64_t kDraws = 40000;
  for (const ColourNoise noise : {ColourNoise::k2012, ColourNoise::kLighting}) {
    double found[3][3] = {};
    for (int64_t position = 0; position < kDraws; ++position) {
      const auto shift = DrawColourShift(noise, 0.1, {3, 7, position});
      for (size_t a = 0; a < 3; ++a) {
        for (size_t b = 0; b < 3; ++b) found[a][b] += shift[a] * shift[b] / double{kDraws};
      }
    }
    const auto components = ColourComponents(noise);
    for (size_t a = 0; a < 3; ++a) {
      for (size_t b = 0; b < 3; ++b) {
        double expected = 0;
        for (const ColourComponent& component : components) {
          expected += 0.01 * component.size * component.size * component.direction[a] *
                      component.direction[b];
        }
        // Five standard errors of a variance: 5 sqrt(2 / n) of the diagonal's size.
        EXPECT_NEAR(found[a][b], expected, 0.036 * 0.01 * components[0].size * components[0].size);
      }
    }
  }
}

TEST(Colour, ScaleIsOneOverOnePlusStrengthInThe2012Form) {
  EXPECT_FLOAT_EQ(ColourScale(ColourNoise::k2012, 0.1), 1 / 1.1f);
  EXPECT_EQ(ColourScale(ColourNoise::k2012, 0), 1);
  EXPECT_EQ(ColourScale(ColourNoise::kLighting, 0.1), 1);
  EXPECT_EQ(ColourScale(ColourNoise::kNone, 0.1), 1);
  EXPECT_EQ(DrawColourShift(ColourNoise::k2012, 0, {1, 2, 3}), (std::array<float, 3>{0, 0, 0}));
}

TEST(Permutation, IsABijectionForEverySize) {
  for (const int64_t size : {1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 106, 1000, 1024, 1025, 50000}) {
    std::vector<bool> seen(static_cast<size_t>(size), false);
    for (int64_t position = 0; position < size; ++position) {
      const int64_t sample = PermutedSample(11, 3, size, position);
      ASSERT_GE(sample, 0);
      ASSERT_LT(sample, size);
      ASSERT_FALSE(seen[static_cast<size_t>(sample)]) << size << " " << position;
      seen[static_cast<size_t>(sample)] = true;
    }
  }
}

TEST(Permutation, DiffersByEpochAndSeed) {
  constexpr int64_t kSize = 1000;
  int64_t same_epoch = 0, same_seed = 0, fixed = 0, neighbours = 0;
  for (int64_t position = 0; position < kSize; ++position) {
    const int64_t sample = PermutedSample(1, 0, kSize, position);
    same_epoch += sample == PermutedSample(1, 1, kSize, position);
    same_seed += sample == PermutedSample(2, 0, kSize, position);
    fixed += sample == position;
    if (position > 0) {
      neighbours += std::abs(sample - PermutedSample(1, 0, kSize, position - 1)) == 1;
    }
  }
  // Each count is Poisson with mean 1 (2 for neighbours) in a random order.
  EXPECT_LT(same_epoch, 9);
  EXPECT_LT(same_seed, 9);
  EXPECT_LT(fixed, 9);
  EXPECT_LT(neighbours, 12);
}

// Every sample comes to every place about equally often, also in the smallest sets.
TEST(Permutation, IsFairOverSeeds) {
  for (const int64_t size : {3, 5, 12}) {
    constexpr int kSeeds = 6000;
    std::vector<std::vector<int>> counts(static_cast<size_t>(size),
                                         std::vector<int>(static_cast<size_t>(size), 0));
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      for (int64_t position = 0; position < size; ++position) {
        ++counts[static_cast<size_t>(position)]
                [static_cast<size_t>(PermutedSample(seed, 0, size, position))];
      }
    }
    const double expected = kSeeds / static_cast<double>(size);
    for (const auto& row : counts) {
      for (const int count : row) EXPECT_NEAR(count, expected, 5 * std::sqrt(expected)) << size;
    }
  }
}

TEST(Permutation, ReachesLargeSizesAtOnce) {
  constexpr int64_t kSize = int64_t{1} << 43;
  const int64_t last = PermutedSample(1, 999, kSize + 1, kSize);
  EXPECT_GE(last, 0);
  EXPECT_LE(last, kSize);
}

TEST(Substitute, IsAFunctionOfItsArgumentsAndCoversTheSet) {
  std::set<int64_t> seen;
  for (int64_t position = 0; position < 2000; ++position) {
    const int64_t sample = SubstituteSample(1, 2, 10, position, 0);
    EXPECT_EQ(sample, SubstituteSample(1, 2, 10, position, 0));
    ASSERT_GE(sample, 0);
    ASSERT_LT(sample, 10);
    seen.insert(sample);
  }
  EXPECT_EQ(seen.size(), 10u);
}

TEST(Share, RowsAndRangesCoverABatchOnce) {
  for (const int64_t batch : {1, 2, 5, 7, 32, 128}) {
    for (const int replicas : {1, 2, 3, 4}) {
      for (const int members : {1, 2, 3}) {
        for (int64_t n = 0; n <= batch; ++n) {
          int64_t next = 0;
          for (int replica = 0; replica < replicas; ++replica) {
            for (int member = 0; member < members; ++member) {
              const Share share{replica, replicas, member, members};
              const auto [begin, end] = share.Range(batch, n);
              ASSERT_EQ(begin, next);
              ASSERT_LE(end - begin, share.Rows(batch));
              next = end;
            }
          }
          ASSERT_EQ(next, n);
        }
      }
    }
  }
  EXPECT_EQ((Share{0, 2, 0, 1}.Range(5, 5)), (std::pair<int64_t, int64_t>(0, 2)));
  EXPECT_EQ((Share{1, 2, 0, 1}.Range(5, 5)), (std::pair<int64_t, int64_t>(2, 5)));
}

}  // namespace
}  // namespace convoy
