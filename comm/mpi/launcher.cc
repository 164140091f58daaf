#include "comm/mpi/launcher.h"

#include <cstdlib>

#include "comm/world.h"
#include "core/error.h"
#include "core/text.h"

namespace convoy {
namespace {

std::optional<LauncherClaim> ReadVariable(const Environment& environment, const char* variable) {
  const char* const value = environment(variable);
  if (value == nullptr) return std::nullopt;
  const std::optional<int64_t> ranks = ParseInteger(value);
  if (!ranks || *ranks < 1) return std::nullopt;
  return LauncherClaim{variable, static_cast<int>(*ranks)};
}

}  // namespace

std::optional<LauncherClaim> ReadLauncherClaim(const Environment& environment) {
  // Open MPI; MPICH and Intel MPI, srun --mpi=pmi2; MVAPICH2; Intel MPI on one host; Cray PALS. The
  // first one present decides: under Open MPI's mpirun, srun's variables tell of its daemons.
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE",
                               "MPI_LOCALNRANKS", "PALS_SIZE"}) {
    if (auto claim = ReadVariable(environment, variable)) return claim;
  }
  // The shell of sbatch or salloc has SLURM_NTASKS and SLURM_PROCID too; a step has these.
  if (environment("SLURM_STEP_ID") == nullptr || environment("SLURM_PROCID") == nullptr) {
    return std::nullopt;
  }
  return ReadVariable(environment, "SLURM_STEP_NUM_TASKS");
}

void CheckLauncher(const Environment& environment, int mpi_ranks, const std::string& library) {
  const std::optional<LauncherClaim> claim = ReadLauncherClaim(environment);
  if (!claim || claim->ranks <= mpi_ranks) return;
  throw Error(ExitCode::kUsage,
              fmt::format("the launcher started {} ranks ({}), but MPI sees {}", claim->ranks,
                          claim->variable, mpi_ranks),
              fmt::format("start convoy with the mpirun of {}, which it was built with; under srun "
                          "give an --mpi= that this MPI understands",
                          library));
}

int LaunchedRanks() {
  const auto claim = ReadLauncherClaim([](const char* name) { return std::getenv(name); });
  return claim ? claim->ranks : 1;
}

}  // namespace convoy
