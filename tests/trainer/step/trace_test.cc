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

INSTANTIATE_TEST_SUITE_P(
    AlexNet2012, Trace,
    ::testing::Values(Configuration{"OracleOneRank", {}, true, 2},
                      Configuration{"OracleTwoTowers", {.towers = 2}, true, 1},
                      Configuration{"OracleTwoReplicas", {.replicas = 2}, true, 1},
                      Configuration{"OracleBoth", {.replicas = 2, .towers = 2}, true, 1},
                      Configuration{"Fp32OneRank", {}, false, 2},
                      Configuration{"Fp32TwoTowers", {.towers = 2}, false, 1},
                      Configuration{"Fp32TwoReplicas", {.replicas = 2}, false, 1},
                      Configuration{"Fp32Both", {.replicas = 2, .towers = 2}, false, 1}),
    [](const auto& instance) { return instance.param.name; });

}  // namespace
}  // namespace convoy
