#include "trainer/run/run_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "core/text.h"
#include "trainer/checkpoint/safetensors.h"
#include "trainer/trainer.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

// What a run writes, apart from the lock.
bool IsRunFile(const std::string& name) {
  return name == "checkpoints" || name.starts_with("metrics.jsonl") || name == "config.cfg" ||
         name.starts_with("bad-samples-rank-") || IsExitRecord(name);
}

// Creates `path` and its parents, and returns those that were missing, outermost first.
std::vector<std::string> MakeFolders(const std::string& path) {
  std::vector<std::string> missing;
  // Without a separator at its end, which would count as a folder of its own.
  fs::path folder = fs::absolute(path).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  for (; !PathExists(folder.string()) && folder.has_relative_path();
       folder = folder.parent_path()) {
    missing.push_back(folder.string());
  }
  std::reverse(missing.begin(), missing.end());
  MakeFolder(path);
  return missing;
}

void RemoveFolders(const std::vector<std::string>& created) {
  std::error_code ignored;  // one that is not empty stays
  for (auto folder = created.rbegin(); folder != created.rend(); ++folder) {
    fs::remove(*folder, ignored);
  }
}

}  // namespace

RunFolder::RunFolder(const std::string& path, Log& log)
    : path_(path), created_(MakeFolders(path)), checkpoints_(path + "/checkpoints") {
  try {
    lock_.emplace(path);
    if (!lock_->warning().empty()) log.Warning("{}", lock_->warning());
    const std::string checkpoints = path + "/checkpoints";
    if (PathExists(checkpoints)) ProbeWriting(checkpoints);
  } catch (const Error&) {
    if (lock_) lock_->RemoveIfCreated();
    RemoveFolders(created_);
    throw;
  }
}

RunFolder::~RunFolder() {
  if (begun_) return;
  lock_->RemoveIfCreated();
  RemoveFolders(created_);
}

void RunFolder::RequireRoom(int64_t state_bytes) const {
  // A checkpoint is written beside the one that it replaces.
  const int64_t needed = 2 * state_bytes, free = FreeBytes(path_);
  if (free < needed) {
    throw Error(ExitCode::kDisk,
                fmt::format("{} has {} free, checkpoints need {}", path_,
                            FormatBytes(static_cast<double>(free)),
                            FormatBytes(static_cast<double>(needed))),
                "free some space, or give another --output-dir");
  }
}

std::optional<std::string> RunFolder::CheckpointToResume(const std::string& resume, Log& log) {
  if (resume == "none") {
    why_aside_ = "--resume none";
    return std::nullopt;
  }
  if (resume != "auto") {
    SafetensorsReader(resume).VerifyChecksums();
    if (!IsInHere(resume)) why_aside_ = "--resume names a checkpoint of another folder";
    return resume;
  }
  std::optional<std::string> newest = checkpoints_.NewestValid(log);
  if (newest) return newest;
  if (PathExists(checkpoints_.best_path())) {
    throw Error(ExitCode::kCheckpoint,
                fmt::format("{} holds a run whose numbered checkpoints are gone; {} is left", path_,
                            checkpoints_.best_path()),
                fmt::format("--resume {} goes on from it; --resume none starts anew and keeps it; "
                            "another --output-dir leaves it alone",
                            checkpoints_.best_path()));
  }
  if (HoldsARun()) why_aside_ = "there is no checkpoint to go on from";
  return std::nullopt;
}

bool RunFolder::IsInHere(const std::string& checkpoint) const {
  std::error_code unknown;
  return fs::equivalent(fs::absolute(checkpoint).parent_path(), path_ + "/checkpoints", unknown);
}

bool RunFolder::HoldsARun() const {
  std::error_code none;
  return fs::file_size(metrics_path(), none) > 0 && !none;
}

void RunFolder::Begin(std::optional<int64_t> step, const std::string& settings, Log& log) {
  begun_ = true;
  if (!why_aside_.empty()) MoveEarlierRunAside(log);
  checkpoints_.Prepare(log);
  if (step && checkpoints_.SetAsideAfter(*step, log) && PathExists(metrics_path())) {
    const std::string copy = FreeName(metrics_path(), ".abandoned");
    WriteText(copy, ReadText(metrics_path(), ExitCode::kDisk));
    log.Info("what {} says of later steps is kept in {}", metrics_path(), copy);
  }
  RemoveExitRecords(path_);
  WriteText(path_ + "/config.cfg", settings);
}

void RunFolder::MoveEarlierRunAside(Log& log) {
  std::vector<fs::path> earlier;
  for (const auto& entry : fs::directory_iterator(path_)) {
    if (IsRunFile(entry.path().filename().string())) earlier.push_back(entry.path());
  }
  if (earlier.empty()) return;
  std::string aside;
  for (int n = 1; aside.empty() || PathExists(aside); ++n) {
    aside = fmt::format("{}/previous-{}", path_, n);
  }
  log.Info("{}: the run in {} is kept in {}", why_aside_, path_, aside);
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

}  // namespace convoy
