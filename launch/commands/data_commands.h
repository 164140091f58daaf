// launch/commands/data_commands.h - what the convoy data commands share.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/host/clock.h"
#include "dataloader/dataset.h"
#include "launch/options/option_table.h"
#include "trainer/run/progress.h"

namespace convoy {

// The arguments that each of these commands takes.
struct DataArguments {
  std::vector<std::string> words;  // the data set
  DatasetOptions dataset;
  int workers = 2;
  bool as_json = false;

  const std::string& location() const { return words.front(); }
};
void AddDataArguments(OptionTable& table, DataArguments* arguments);
// Returns the files that a data set leaves out, by kind: {".bmp": 1, ".webp": 2}.
std::map<std::string, int64_t> CountsOf(const LeftOut& left_out);
// Throws (kUsage) unless exactly one data set was named.
void RequireOneWord(const DataArguments& arguments);

// Shows how far a long job is, with the time left. Called from one thread at a time.
class JobProgress {
 public:
  JobProgress(Log& log, std::string what, int64_t total);
  void operator()(int64_t done);

 private:
  Progress progress_;
  std::string what_;
  int64_t total_;
  Clock::time_point start_ = Clock::now();
};

ExitCode VerifyCommand(int argc, const char* const* argv);
ExitCode PackCommand(int argc, const char* const* argv);

}  // namespace convoy
