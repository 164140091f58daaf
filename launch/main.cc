// convoy SUBCOMMAND [options]
#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "core/text.h"
#include "core/version.h"
#include "launch/command.h"

namespace convoy {
namespace {

struct Subcommand {
  const char* name;
  const char* summary;
  Command run;
};

constexpr Subcommand kSubcommands[] = {
    {"train", "train a network, on one rank or many", TrainCommand},
    {"eval", "top-1, top-5 and loss of a checkpoint, or of several as an ensemble", EvalCommand},
    {"predict", "the most probable classes of image files", PredictCommand},
    {"summary", "the layers of a model, and what each rank owns and exchanges", SummaryCommand},
    {"data", "index, check, measure and pack data sets", DataCommand},
    {"bench", "throughput against the limit of the machine", BenchCommand},
    {"doctor", "what the ranks, their processors and their data look like", DoctorCommand},
};

void PrintHelp() {
  std::cout << "convoy - AlexNet (2012) on one machine or many\n\n"
               "Usage: convoy SUBCOMMAND [options]\n"
               "       launch/convoyrun -n RANKS SUBCOMMAND [options]\n\n";
  for (const Subcommand& subcommand : kSubcommands) {
    std::cout << fmt::format("  {:<10}{}\n", subcommand.name, subcommand.summary);
  }
  std::cout << "\nconvoy SUBCOMMAND --help shows its options.\n";
}

ExitCode Main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "--help";
  if (name == "--help" || name == "-h" || name == "help") {
    PrintHelp();
    return argc > 1 ? ExitCode::kDone : ExitCode::kUsage;
  }
  if (name == "--version") {
    std::cout << "convoy " << kVersion << "\n";
    return ExitCode::kDone;
  }
  std::vector<std::string> names;
  for (const Subcommand& subcommand : kSubcommands) {
    if (name == subcommand.name) return subcommand.run(argc - 2, argv + 2);
    names.emplace_back(subcommand.name);
  }
  const auto nearest = NearestName(name, names);
  throw Error(ExitCode::kUsage, fmt::format("there is no subcommand {}", name),
              nearest ? fmt::format("did you mean {}?", *nearest)
                      : fmt::format("the subcommands are {}", fmt::join(names, ", ")));
}

}  // namespace
}  // namespace convoy

int main(int argc, char** argv) {
  // A reader of our output that goes away must not end a run.
  std::signal(SIGPIPE, SIG_IGN);
  // A file that grows past its limit is an error of that write, reported with its name.
  std::signal(SIGXFSZ, SIG_IGN);
  convoy::RecordStart();
  try {
    convoy::ExitCode code;
    try {
      code = convoy::Main(argc, argv);
    } catch (const convoy::Error& error) {
      // Commands catch what is thrown once they have made a world.
      code = convoy::EndAllRanks(error);
    }
    if (code == convoy::ExitCode::kDone) convoy::FlushOutput();
    return static_cast<int>(code);
  } catch (const convoy::Error& error) {
    convoy::PrintError(error);
    return static_cast<int>(error.exit_code());
  } catch (const std::system_error& error) {
    if (convoy::IsBrokenPipe(error)) return static_cast<int>(convoy::ExitCode::kDone);
    convoy::PrintError(convoy::Error(convoy::ExitCode::kDisk, error.what()));
    return static_cast<int>(convoy::ExitCode::kDisk);
  } catch (const std::exception& exception) {
    fmt::print(stderr, "convoy: error: {}\n", exception.what());
    return static_cast<int>(convoy::ExitCode::kDefect);
  }
}
