// The two-tower network against an independent run of it, reproduced on one rank, as two towers, as
// two replicas, and as both.
#include "tests/trainer/trace_check.h"

namespace convoy {
namespace {

struct Configuration {
  std::string name;
  GridShape grid;
  bool oracle;
  int threads;
};

class Trace : public ::testing::TestWithParam<Configuration> {};

// In double precision every figure agrees to 1e-9; three steps suffice to go through every formula
// (gradient, momentum, decay) twice.
TEST_P(Trace, IsReproduced) {
  if (!HasTrace()) GTEST_SKIP() << "../shared/reference is not there";
  const Configuration& configuration = GetParam();
  const auto make_backend = [&] {
    return configuration.oracle ? MakeOracleBackend(configuration.threads)
                                : MakeCpuBackend(configuration.threads);
  };
  RunAsThreads(configuration.grid.ranks(), {}, [&](World& world) {
    if (configuration.oracle) {
      ReproduceTrace(world, configuration.grid, make_backend, DType::kFloat64, 3,
                     {1e-9, 1e-9, 1e-9, true});
    } else {
      ReproduceTrace(world, configuration.grid, make_backend, DType::kFloat32, kTraceSteps,
                     kSinglePrecisionTrace);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(AlexNet2012, Trace,
                         ::testing::Values(Configuration{"OracleOneRank", {1, 1}, true, 2},
                                           Configuration{"OracleTwoTowers", {1, 2}, true, 1},
                                           Configuration{"OracleTwoReplicas", {2, 1}, true, 1},
                                           Configuration{"OracleBoth", {2, 2}, true, 1},
                                           Configuration{"Fp32OneRank", {1, 1}, false, 2},
                                           Configuration{"Fp32TwoTowers", {1, 2}, false, 1},
                                           Configuration{"Fp32TwoReplicas", {2, 1}, false, 1},
                                           Configuration{"Fp32Both", {2, 2}, false, 1}),
                         [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace convoy
