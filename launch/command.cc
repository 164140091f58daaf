#include "launch/command.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <new>
#include <optional>

#include "comm/world.h"
#include "core/text.h"
#include "launch/start.h"
#include "trainer/ranks/agreement.h"
#include "trainer/trainer.h"

namespace convoy {
namespace {

// convoyrun names a folder of its own, so that it learns the codes that mpirun hides.
std::string WrappersFolder() {
  const char* folder = std::getenv("CONVOY_EXIT_DIR");
  return folder == nullptr ? "" : folder;
}

void Record(const std::string& output_dir, const World& world, ExitCode code,
            const std::string& reason) {
  for (const std::string& folder : {output_dir, WrappersFolder()}) {
    if (!folder.empty()) WriteExitRecord(folder, world.rank(), world.step(), code, reason);
  }
}

std::string NameOf(const World& world) {
  return fmt::format("[rank {} on {}] ", world.rank(),
                     world.hosts()[static_cast<size_t>(world.rank())]);
}

// Whether standard output is a pipe that nobody reads any more.
bool ReaderIsGone() {
  pollfd output{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  return poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0;
}

const char* ReasonOf(ExitCode code) {
  return code == ExitCode::kInterrupted ? "stopped by a signal, with a good checkpoint" : "done";
}

// Every rank meets the same error, before it knows the others: the first one prints it.
void PrintErrorOfAll(const Error& error) {
  if (LaunchedRanks() <= 1 || RankBeforeMpi() == 0) PrintError(error);
}

// Runs `body` and ends this rank as the outcome asks. `fault`: its command line is wrong.
ExitCode RunInWorld(World& world, const std::string& asked, const std::optional<Error>& fault,
                    const std::string& output_dir, Log& log,
                    const std::function<ExitCode(World& world, Log& log)>& body) {
  const auto end_alone = [&](const Error& error) {
    PrintError(error, world.size() > 1 ? NameOf(world) : "");
    Record(output_dir, world, error.exit_code(), error.what());
    if (world.size() > 1) world.Abort(error.exit_code());
    return error.exit_code();
  };
  try {
    if (world.size() > 1) {
      RequireSameStart(world,
                       {.program = DescribeProgram(world), .command = asked, .fault = fault});
    }
    const ExitCode code = body(world, log);
    FlushOutput();
    Record(output_dir, world, code, ReasonOf(code));
    return code;
  } catch (const AgreedError& error) {
    if (world.rank() == error.origin()) PrintError(error);
    Record(output_dir, world, error.exit_code(), error.what());
    return error.exit_code();
  } catch (const Error& error) {
    return end_alone(error);
  } catch (const std::bad_alloc&) {
    return end_alone(Error(ExitCode::kDevice, "out of host memory",
                           "use a smaller --batch-size, or more ranks"));
  } catch (const std::system_error& error) {
    if (!IsBrokenPipe(error)) return end_alone(Error(ExitCode::kDisk, error.what()));
    Record(output_dir, world, ExitCode::kDone, ReasonOf(ExitCode::kDone));
    return ExitCode::kDone;
  } catch (const std::exception& exception) {
    return end_alone(Error(ExitCode::kDefect, exception.what(),
                           "this is a defect of Convoy; please report it with this line"));
  }
}

}  // namespace

int RankBeforeMpi() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"}) {
    const char* text = std::getenv(name);
    if (text == nullptr) continue;
    return static_cast<int>(ParseInteger(text).value_or(0));
  }
  return 0;
}

void RecordStart() {
  const std::string folder = WrappersFolder();
  // Other hosts do not have the folder.
  if (!folder.empty()) {
    std::ofstream(fmt::format("{}/started.{}", folder, RankBeforeMpi())) << getpid() << "\n";
  }
}

// Without exceptions: standard error may be a terminal that is gone.
void PrintError(const Error& error, const std::string& who) {
  std::fputs(fmt::format("convoy: error: {}{}\n", who, error.what()).c_str(), stderr);
}

void RequireOneRank(const std::string& command) {
  const int ranks = LaunchedRanks();
  if (ranks <= 1) return;
  throw Error(ExitCode::kUsage,
              fmt::format("{} runs in one process, {} were started", command, ranks),
              "start it without mpirun or convoyrun");
}

bool IsBrokenPipe(const std::system_error& error) { return error.code() == std::errc::broken_pipe; }

void FlushOutput() {
  errno = 0;
  std::cout.flush();
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  const int reason = errno;
  if (written || reason == EPIPE || ReaderIsGone()) return;
  // An earlier write may have failed, and its reason is not kept.
  throw Error(ExitCode::kDisk,
              fmt::format("standard output could not be written{}",
                          reason == 0 ? "" : fmt::format(": {}", std::strerror(reason))),
              "what was printed is incomplete; make room, and run the command again");
}

ExitCode RunOnAllRanks(const std::string& asked, const WorldOptions& options,
                       const std::string& output_dir,
                       const std::function<ExitCode(World& world, Log& log)>& body) {
  Log log;
  WorldOptions reporting = options;
  reporting.report = [&log](const std::string& line) { log.Info("{}", line); };
  reporting.on_loss = [&output_dir](const Error& error, const World& left_behind) {
    PrintError(error, NameOf(left_behind));
    Record(output_dir, left_behind, error.exit_code(), error.what());
  };
  std::unique_ptr<World> world;
  try {
    world = MakeMpiWorld(reporting);
  } catch (const Error& error) {
    PrintErrorOfAll(error);
    return error.exit_code();
  }
  log.SetRank(world->rank());
  return RunInWorld(*world, asked, std::nullopt, output_dir, log, body);
}

ExitCode EndAllRanks(const Error& fault) {
  std::unique_ptr<World> world;
  if (LaunchedRanks() > 1) {
    try {
      world = MakeMpiWorld({});
    } catch (const Error&) {
      // MPI does not see the other ranks: the fault is told without it.
    }
  }
  if (world == nullptr || world->size() == 1) {
    PrintErrorOfAll(fault);
    return fault.exit_code();
  }
  Log log(LogLevel::kInfo, world->rank());
  return RunInWorld(*world, "", fault, "", log, [&](World&, Log&) { return fault.exit_code(); });
}

}  // namespace convoy
