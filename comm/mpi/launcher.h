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

// Returns the name of the program that started this one; empty if the system does not say.
std::string ParentProgram();

// How many ranks the launcher says it started; nothing if no launcher did. The variables of a
// Slurm job (those that sbatch and salloc set) are no claim by themselves: only a step of srun is
// one, and an interactive shell is none. `parent` is the name of the program that started this one.
std::optional<LauncherClaim> ReadLauncherClaim(const Environment& environment,
                                               const std::string& parent = ParentProgram());

// Returns whether this process was started from the interactive shell of `srun --pty`, which is the
// first task of its step. The shell has the variables of a rank, but what runs in it is none: the
// other tasks of the step ended when they read the end of their input.
bool IsInInteractiveStep(const Environment& environment, const std::string& parent);

// If the shell of a Slurm job started this process, without a launcher, changes the environment
// so that MPI starts as one rank: Slurm's variables would make it wait for the other tasks of the
// step, or refuse. Call before MPI is initialised and before there are threads.
void StartAloneInSlurmShell();

// Throws (kUsage) when the launcher claims more ranks than MPI sees. `library` names the MPI that
// this program runs with.
void CheckLauncher(const Environment& environment, int mpi_ranks, const std::string& library);

}  // namespace convoy
