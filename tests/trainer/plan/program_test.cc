// The list of a step's operations, by the ranks' plans. No rank runs here.
#include "trainer/plan/program.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "layers/models.h"

namespace convoy {
namespace {

using Lines = std::vector<std::string>;

// One line for each operation: what it is, and the names of its segment, exchange or bucket.
class Listing {
 public:
  explicit Listing(const GridShape& grid, int rank = 0, int classes = 1000,
                   const PlanOptions& options = {})
      : plan_(MakePlan(MakeModel("alexnet2012", {.classes = classes}), grid, rank, options)),
        buckets_(PlanBuckets(plan_)) {}

  Lines OfTraining(const ProgramOptions& options = {}) const {
    return LinesOf(TrainingProgram(plan_, buckets_, options));
  }
  Lines OfEvaluation() const { return LinesOf(EvaluationProgram(plan_)); }

 private:
  Lines LinesOf(const StepProgram& program) const {
    Lines lines;
    for (const StepOperation& operation : program) {
      lines.push_back(std::visit([this](const auto& one) { return LineOf(one); }, operation));
    }
    return lines;
  }

  std::string LineOf(const steps::Load&) const { return "load"; }
  std::string LineOf(const steps::GatherRows&) const { return "gather rows"; }
  std::string LineOf(const steps::Forward& one) const { return "forward " + NameOf(one.stage); }
  std::string LineOf(const steps::MoveActivations& one) const {
    return (one.direction == Direction::kForward ? "move " : "move back ") + NameOf(one.stage);
  }
  std::string LineOf(const steps::Backward& one) const {
    return fmt::format("backward {}{}{}", NameOf(one.stage), one.adds ? ", adds" : "",
                       one.last ? ", last" : "");
  }
  std::string LineOf(const steps::Reduce& one) const { return "reduce " + BucketName(one.bucket); }
  std::string LineOf(const steps::Norms&) const { return "norms"; }
  std::string LineOf(const steps::Update& one) const { return "update " + BucketName(one.bucket); }
  std::string LineOf(const steps::GatherParameters& one) const {
    return "gather " + BucketName(one.bucket);
  }

  std::string NameOf(int stage) const {
    const Stage& found = plan_.stages.at(static_cast<size_t>(stage));
    if (const auto* exchange = std::get_if<Exchange>(&found)) return exchange->name;
    return std::get<SegmentPlan>(found).spec.items.front().layer.name;
  }
  std::string BucketName(int bucket) const { return buckets_.at(static_cast<size_t>(bucket)).name; }

  RankPlan plan_;
  std::vector<BucketRange> buckets_;
};

Lines operator+(Lines a, const Lines& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const Lines kUpdates{"update fc7..fc8", "update fc6", "update conv1..conv5"};

TEST(StepProgram, OfOneRankIsForwardBackwardReduceUpdate) {
  EXPECT_EQ(Listing({}).OfTraining(),
            (Lines{"load", "forward conv1", "backward conv1, last", "reduce fc7..fc8", "reduce fc6",
                   "reduce conv1..conv5"}) +
                kUpdates);
  EXPECT_EQ(Listing({}).OfEvaluation(), (Lines{"load", "forward conv1"}));
}

// Small tensors are one bucket, which every rank updates; the others are gathered.
TEST(StepProgram, OfAShardedUpdateGathersWhatWasUpdated) {
  EXPECT_EQ(Listing({.replicas = 2}, 0, 1000, {.shards_update = true}).OfTraining(),
            (Lines{"load", "forward conv1", "backward conv1, last", "reduce fc7..fc8", "reduce fc6",
                   "reduce conv1..conv5", "reduce conv1..fc8 small", "update fc7..fc8",
                   "gather fc7..fc8", "update fc6", "gather fc6", "update conv1..conv5",
                   "gather conv1..conv5", "update conv1..fc8 small"}));
  // Nobody else holds what shards have of the fully connected layers.
  const Lines shards = Listing({.shards = 2}, 1, 1000, {.shards_update = true}).OfTraining();
  EXPECT_EQ(Lines(shards.end() - 6, shards.end()),
            (Lines{"update fc7..fc8", "update fc6", "update fc6..fc8 small", "update conv1..conv5",
                   "gather conv1..conv5", "update conv1..conv5 small"}));
}

// Each bucket is reduced as soon as the last of its segments has run backward.
TEST(StepProgram, OfTowersExchangesBetweenItsSegments) {
  EXPECT_EQ(Listing({.towers = 2}).OfTraining(), (Lines{"load",
                                                        "forward conv1",
                                                        "move pool2 to conv3",
                                                        "forward conv3",
                                                        "move pool5 to fc6",
                                                        "forward fc6",
                                                        "move drop6 to fc7",
                                                        "forward fc7",
                                                        "move drop7 to fc8",
                                                        "forward fc8",
                                                        "backward fc8, last",
                                                        "move back drop7 to fc8",
                                                        "backward fc7, last",
                                                        "reduce fc7..fc8",
                                                        "move back drop6 to fc7",
                                                        "backward fc6, last",
                                                        "reduce fc6",
                                                        "move back pool5 to fc6",
                                                        "backward conv3, last",
                                                        "move back pool2 to conv3",
                                                        "backward conv1, last",
                                                        "reduce conv1..conv5"}) +
                                                     kUpdates);
}

TEST(StepProgram, OfTheTowerWithoutTheLossEndsInAnExchange) {
  const Lines lines = Listing({.towers = 2}, 1).OfEvaluation();
  EXPECT_EQ(lines, (Lines{"load", "forward conv1", "move pool2 to conv3", "forward conv3",
                          "move pool5 to fc6", "forward fc6", "move drop6 to fc7", "forward fc7",
                          "move drop7 to fc8"}));
  const Lines training = Listing({.towers = 2}, 1).OfTraining();
  EXPECT_EQ(Lines(training.begin() + 9, training.begin() + 13),
            (Lines{"move back drop7 to fc8", "backward fc7, last", "reduce fc7",
                   "move back drop6 to fc7"}));
}

const Lines kForwardOfShards{
    "load",        "gather rows",       "forward conv1", "move pool5 to fc6",
    "forward fc6", "move drop6 to fc7", "forward fc7",   "move drop7 to fc8",
    "forward fc8", "move fc8 to loss",  "forward loss"};

TEST(StepProgram, OfShardsGathersTheRows) {
  EXPECT_EQ(Listing({.shards = 2}, 1).OfEvaluation(), kForwardOfShards);
  const Lines backward{"backward loss, last",    "move back fc8 to loss", "backward fc8, last",
                       "move back drop7 to fc8", "backward fc7, last",    "reduce fc7..fc8",
                       "move back drop6 to fc7", "backward fc6, last",    "reduce fc6",
                       "move back pool5 to fc6", "backward conv1, last",  "reduce conv1..conv5"};
  EXPECT_EQ(Listing({.shards = 2}, 1).OfTraining(), kForwardOfShards + backward + kUpdates);
}

// It has no class; the exchanges of the others need it.
TEST(StepProgram, OfARankWithoutASegmentTakesPartInEveryExchange) {
  Lines forward = kForwardOfShards;
  std::erase(forward, "forward fc8");
  const Lines backward{"backward loss, last",
                       "move back fc8 to loss",
                       "move back drop7 to fc8",
                       "backward fc7, last",
                       "reduce fc7",
                       "move back drop6 to fc7",
                       "backward fc6, last",
                       "reduce fc6",
                       "move back pool5 to fc6",
                       "backward conv1, last",
                       "reduce conv1..conv5"};
  const Lines updates{"update fc7", "update fc6", "update conv1..conv5"};
  EXPECT_EQ(Listing({.shards = 8}, 7, /*classes=*/5).OfTraining(), forward + backward + updates);
}

// The first pass overwrites the gradients, the others add; nothing is reduced before the last.
TEST(StepProgram, OfMicroBatchesReducesAndUpdatesOnce) {
  const Lines first{"load", "forward conv1", "backward conv1"};
  const Lines between{"load", "forward conv1", "backward conv1, adds"};
  const Lines last{
      "load",       "forward conv1",      "backward conv1, adds, last", "reduce fc7..fc8",
      "reduce fc6", "reduce conv1..conv5"};
  EXPECT_EQ(Listing({}).OfTraining({.micro_batches = 3}), first + between + last + kUpdates);
  const Lines shards = Listing({.shards = 2}).OfTraining({.micro_batches = 2});
  const Lines at_once = Listing({.shards = 2}).OfTraining();
  // Forward and backward twice, without the three reductions of the first.
  EXPECT_EQ(shards.size(), 2 * (at_once.size() - kUpdates.size()) - 3 + kUpdates.size());
  EXPECT_EQ(Lines(shards.begin(), shards.begin() + 11), kForwardOfShards);
  EXPECT_EQ(shards[11], "backward loss");
  EXPECT_EQ(std::count(shards.begin(), shards.end(), "reduce fc6"), 1);
  EXPECT_EQ(std::count(shards.begin(), shards.end(), "backward fc6, adds, last"), 1);
  EXPECT_EQ(std::count(shards.begin(), shards.end(), "backward fc6"), 1);
}

TEST(StepProgram, NormsComeAfterEveryReductionAndBeforeEveryUpdate) {
  const Lines lines = Listing({.shards = 2}).OfTraining({.micro_batches = 2, .needs_norms = true});
  EXPECT_EQ(std::count(lines.begin(), lines.end(), "norms"), 1);
  EXPECT_EQ(Lines(lines.end() - 5, lines.end()),
            (Lines{"reduce conv1..conv5", "norms"}) + kUpdates);
}

// Ranks that share a collective must come to it in the same order.
TEST(StepProgram, AllRanksMoveAndReduceInOneOrder) {
  for (const GridShape& grid : {GridShape{.replicas = 2, .shards = 2, .towers = 2},
                                GridShape{.shards = 7}, GridShape{.shards = 3, .towers = 2}}) {
    const auto shared = [&](int rank) {
      Lines lines = Listing(grid, rank, /*classes=*/5).OfTraining({.micro_batches = 2});
      std::erase_if(lines, [](const std::string& line) {
        return !line.starts_with("move") && !line.starts_with("gather") &&
               !line.starts_with("reduce conv");
      });
      return lines;
    };
    for (int rank = 1; rank < grid.ranks(); ++rank) EXPECT_EQ(shared(rank), shared(0));
  }
}

}  // namespace
}  // namespace convoy
