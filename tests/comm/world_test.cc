// Every world does every collective.
#include "comm/world.h"

#include <gtest/gtest.h>

#include "tests/comm/collective_checks.h"

namespace convoy {
namespace {

struct Case {
  int threads;  // 0: the world of one without threads
  CollectiveCheck check;
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.threads << " threads"; }

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const int threads : {0, 1, 2, 3, 4, 7}) {
    for (const CollectiveCheck& check : CollectiveChecks()) cases.push_back({threads, check});
    for (const CollectiveCheck& check : GroupChecks()) cases.push_back({threads, check});
  }
  return cases;
}

std::string NameOfCase(const ::testing::TestParamInfo<Case>& info) {
  const int threads = info.param.threads;
  return info.param.check.name +
         (threads == 0 ? "_Self" : "_" + std::to_string(threads) + "Threads");
}

class WorldTest : public ::testing::TestWithParam<Case> {};

TEST_P(WorldTest, DoesWhatTheCheckWants) {
  const auto body = [](World& world) { GetParam().check.run(world); };
  if (GetParam().threads == 0) {
    body(*MakeSelfWorld());
  } else {
    RunAsThreads(GetParam().threads, {.deadline_s = 0}, body);
  }
}

INSTANTIATE_TEST_SUITE_P(Collectives, WorldTest, ::testing::ValuesIn(Cases()), NameOfCase);

}  // namespace
}  // namespace convoy
