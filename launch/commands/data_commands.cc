#include "launch/commands/data_commands.h"

#include <fmt/format.h>

#include <utility>

#include "core/error.h"
#include "core/text.h"

namespace convoy {

void AddDataArguments(OptionTable& table, DataArguments* arguments) {
  table.Positional("DATA", "a data set in any form that convoy train takes", 1, &arguments->words);
  table.Group("Data");
  table.Add("devkit", "PATH", "", "ILSVRC development kit (folder or archive)",
            store::Text(&arguments->dataset.devkit));
  table.Add("index-folder", "PATH", "", "where indexes of archives are kept (default: beside them)",
            store::Text(&arguments->dataset.index_folder));
  table.Add("workers,j", "N", "2", "threads", store::Integer("workers", 1, 1024, [=](int64_t n) {
              arguments->workers = static_cast<int>(n);
            }));
  table.AddFlag("json", "one JSON object", &arguments->as_json);
}

std::map<std::string, int64_t> CountsOf(const LeftOut& left_out) {
  std::map<std::string, int64_t> counts;
  for (const auto& [kind, entry] : left_out.kinds()) counts[kind] = entry.count;
  return counts;
}

void RequireOneWord(const DataArguments& arguments) {
  if (arguments.words.size() == 1) return;
  throw Error(ExitCode::kUsage,
              fmt::format("expected one data set, found also '{}'", arguments.words[1]));
}

JobProgress::JobProgress(Log& log, std::string what, int64_t total)
    : progress_(log, Progress::StyleOfTerminal()), what_(std::move(what)), total_(total) {}

void JobProgress::operator()(int64_t done) {
  const double elapsed = SecondsSince(start_);
  const double share = total_ > 0 ? static_cast<double>(done) / static_cast<double>(total_) : 1;
  progress_.Show(share, share > 0 ? elapsed * (1 - share) / share : 0,
                 fmt::format("{} {} of {}", what_, FormatCount(done), FormatCount(total_)));
}

}  // namespace convoy
