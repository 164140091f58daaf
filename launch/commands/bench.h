// launch/commands/bench.h - the benches behind `convoy bench`.
#pragma once

#include "launch/command.h"

namespace convoy {

ExitCode BenchStepCommand(int argc, const char* const* argv, bool layers_only);
ExitCode BenchLoaderCommand(int argc, const char* const* argv);
ExitCode BenchCommCommand(int argc, const char* const* argv);

}  // namespace convoy
