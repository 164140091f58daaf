#include "comm/mpi/launcher.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string_view>
#include <vector>

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

std::vector<std::string> NamesOfVariables() {
  std::vector<std::string> names;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    names.emplace_back(text.substr(0, text.find('=')));
  }
  return names;
}

// Returns whether MPI takes the variable as a sign that a launcher started this process as a rank.
bool BelongsToSlurmTask(const std::string& name) {
  return name.starts_with("PMI_") || name.starts_with("PMIX_") || name == "SLURM_STEP_ID" ||
         name == "SLURM_STEPID";
}

}  // namespace

std::string ParentProgram() {
  std::ifstream file(fmt::format("/proc/{}/comm", getppid()));
  std::string name;
  std::getline(file, name);
  return name;
}

bool IsInInteractiveStep(const Environment& environment, const std::string& parent) {
  // A launcher that was started in the shell decides.
  for (const char* variable :
       {"OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "MPI_LOCALNRANKS", "PALS_SIZE"}) {
    if (environment(variable) != nullptr) return false;
  }
  // Slurm forwards the size of the terminal to this port.
  if (environment("SLURM_PTY_PORT") == nullptr) return false;
  const char* const task = environment("SLURM_PROCID");
  // `srun --pty convoy train` starts convoy itself on every task.
  return task != nullptr && std::string_view(task) == "0" && parent != "slurmstepd";
}

std::optional<LauncherClaim> ReadLauncherClaim(const Environment& environment,
                                               const std::string& parent) {
  if (IsInInteractiveStep(environment, parent)) return std::nullopt;
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

void StartAloneInSlurmShell() {
  const auto environment = [](const char* name) { return std::getenv(name); };
  const std::string parent = ParentProgram();
  if (IsInInteractiveStep(environment, parent)) {
    for (const std::string& name : NamesOfVariables()) {
      if (BelongsToSlurmTask(name)) unsetenv(name.c_str());
    }
  }
  if (environment("SLURM_NODELIST") == nullptr || ReadLauncherClaim(environment, parent)) return;
  const std::vector<std::string> names = NamesOfVariables();
  if (std::any_of(names.begin(), names.end(), BelongsToSlurmTask)) return;  // another launcher's
  // Open MPI takes SLURM_NODELIST for a start by srun.
  setenv("OMPI_MCA_ess", "singleton", /*overwrite=*/0);
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
