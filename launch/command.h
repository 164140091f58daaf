// launch/command.h - what the subcommands share: their signature, and running on all ranks.
#pragma once

#include <functional>
#include <string>
#include <system_error>

#include "comm/world.h"
#include "core/error.h"
#include "core/host/log.h"

namespace convoy {

// A subcommand. `argv` begins after its name. Throws Errors; returns the exit code otherwise.
using Command = ExitCode (*)(int argc, const char* const* argv);

ExitCode TrainCommand(int argc, const char* const* argv);
ExitCode EvalCommand(int argc, const char* const* argv);
ExitCode PredictCommand(int argc, const char* const* argv);
ExitCode SummaryCommand(int argc, const char* const* argv);
ExitCode DataCommand(int argc, const char* const* argv);
ExitCode BenchCommand(int argc, const char* const* argv);
ExitCode DoctorCommand(int argc, const char* const* argv);

// Runs `body` in the world that the launcher made, if all ranks are of one build of convoy and were
// asked for the same (OptionTable::Asked). A fault that all ranks know of is printed once and ends
// them in order; any other is printed, recorded and ends the others too. Leaves an exit record in
// `output_dir` (if it is not empty) and in the folder that convoyrun names. It reads
// `output_dir` at the end, so `body` may set it once the folder is its own.
ExitCode RunOnAllRanks(const std::string& asked, const WorldOptions& options,
                       const std::string& output_dir,
                       const std::function<ExitCode(World& world, Log& log)>& body);

// Leaves started.RANK, which holds the id of this process, in the folder that convoyrun names. So
// convoyrun knows that mpirun has started a rank on its host.
void RecordStart();

// Ends this rank for a fault of its command line, and with it the other ranks, which may have found
// no fault in theirs. One of them prints it. Call if no world was made. Returns the exit code.
ExitCode EndAllRanks(const Error& fault);

// Throws (kUsage) if a launcher started several ranks of a command that runs in one process.
void RequireOneRank(const std::string& command);

// Writes out what was printed to standard output. Throws (kDisk) if some of it could not be
// written, so that a file that was cut short is noticed. A reader that has gone away is no error.
void FlushOutput();

// Whether printing failed because nobody reads the output any more, which is no fault.
bool IsBrokenPipe(const std::system_error& error);

// The fault as one line on standard error; `who`: "[rank 1 on node7] ", or nothing.
void PrintError(const Error& error, const std::string& who = {});

// The rank that a launcher gave this process, known before MPI is; 0 without a launcher.
int RankBeforeMpi();

}  // namespace convoy
