// comm/mpi/launcher.h - what the environment says of the program that started this rank.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace convoy {

struct LauncherClaim {
  std::string variable;  // "PMI_SIZE"
  int ranks = 0;
};

// The variable's value, or null: getenv, or a test's own.
using Environment = std::function<const char*(const char*)>;

// How many ranks the launcher says it started; nothing where no launcher did. The variables of a
// Slurm job alone (those that sbatch and salloc set) are no claim: only a step of srun is one.
std::optional<LauncherClaim> ReadLauncherClaim(const Environment& environment);

// Throws (kUsage) when the launcher claims more ranks than MPI sees. `library` names the MPI that
// this program runs with.
void CheckLauncher(const Environment& environment, int mpi_ranks, const std::string& library);

}  // namespace convoy
