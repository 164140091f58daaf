#include "trainer/run/run_folder.h"

#include <fmt/format.h>

#include <filesystem>
#include <vector>

#include "core/text.h"
#include "trainer/checkpoint/safetensors.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

FolderLock MakeAndLock(const std::string& path) {
  MakeFolder(path);
  return FolderLock(path);
}

// What a run writes, apart from the lock and the ranks' exit records.
bool IsRunFile(const std::string& name) {
  return name == "checkpoints" || name == "metrics.jsonl" || name == "config.cfg" ||
         name.starts_with("bad-samples-rank-");
}

}  // namespace

RunFolder::RunFolder(const std::string& path, int64_t state_bytes)
    : path_(path), lock_(MakeAndLock(path)), checkpoints_(path + "/checkpoints") {
  // A checkpoint is written beside the one that it replaces.
  const int64_t needed = 2 * state_bytes, free = FreeBytes(path);
  if (free < needed) {
    throw Error(ExitCode::kDisk,
                fmt::format("{} has {} free, checkpoints need {}", path,
                            FormatBytes(static_cast<double>(free)),
                            FormatBytes(static_cast<double>(needed))),
                "free some space, or give another --output-dir");
  }
}

std::optional<std::string> RunFolder::CheckpointToResume(const std::string& resume, Log& log) {
  if (resume == "none") MoveEarlierRunAside(log);
  checkpoints_.Prepare(log);
  if (resume == "none") return std::nullopt;
  if (resume == "auto") return checkpoints_.NewestValid(log);
  SafetensorsReader(resume).VerifyChecksums();
  return resume;
}

void RunFolder::MoveEarlierRunAside(Log& log) {
  std::string aside;
  for (int n = 1; aside.empty() || fs::exists(aside); ++n) {
    aside = fmt::format("{}/previous-{}", path_, n);
  }
  std::vector<fs::path> earlier;
  for (const auto& entry : fs::directory_iterator(path_)) {
    if (IsRunFile(entry.path().filename().string())) earlier.push_back(entry.path());
  }
  if (earlier.empty()) return;
  log.Info("--resume none: the run in {} is kept in {}", path_, aside);
  MakeFolder(aside);
  for (const fs::path& from : earlier) {
    std::error_code error;
    fs::rename(from, fs::path(aside) / from.filename(), error);
    if (error) {
      throw Error(ExitCode::kDisk,
                  fmt::format("cannot move {} into {}: {}", from.string(), aside, error.message()));
    }
  }
}

void RunFolder::WriteSettings(const std::string& settings) {
  WriteText(path_ + "/config.cfg", settings);
}

}  // namespace convoy
