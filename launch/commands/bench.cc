#include "launch/commands/bench.h"

#include <fmt/format.h>

#include <iostream>

namespace convoy {

ExitCode BenchCommand(int argc, const char* const* argv) {
  const std::string what = argc > 0 ? argv[0] : "--help";
  if (what == "step") return BenchStepCommand(argc - 1, argv + 1, /*layers_only=*/false);
  if (what == "layers") return BenchStepCommand(argc - 1, argv + 1, /*layers_only=*/true);
  if (what == "loader") return BenchLoaderCommand(argc - 1, argv + 1);
  if (what == "comm") return BenchCommCommand(argc - 1, argv + 1);
  if (what == "--help" || what == "-h") {
    std::cout << "convoy bench - throughput against the limit of the machine\n\n"
                 "Usage: convoy bench step|layers|loader|comm [options]\n\n"
                 "  step    training steps on synthetic data, and what limits them\n"
                 "  layers  each operation of a step against its vendor primitive alone\n"
                 "  loader  images per second from a data set, or digests of its batches\n"
                 "  comm    all-reduce of a network's gradients, bucket by bucket\n";
    return argc > 0 ? ExitCode::kDone : ExitCode::kUsage;
  }
  throw Error(ExitCode::kUsage, fmt::format("convoy bench {}: there is no such bench", what),
              "the benches are step, layers, loader and comm");
}

}  // namespace convoy
