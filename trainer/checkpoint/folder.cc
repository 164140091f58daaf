#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "core/host/files.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/safetensors.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "step-";
constexpr const char* kSuffix = ".safetensors";

bool IsNumberedCheckpoint(const std::string& name) {
  const std::string_view prefix = kPrefix, suffix = kSuffix;
  if (!name.starts_with(prefix) || !name.ends_with(suffix)) return false;
  const auto digits =
      std::string_view(name).substr(prefix.size(), name.size() - prefix.size() - suffix.size());
  return !digits.empty() &&
         std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::string CheckpointFolder::PathOf(int64_t step) const {
  return fmt::format("{}/{}{:09}{}", folder_, kPrefix, step, kSuffix);
}

void CheckpointFolder::Prepare(Log& log) const {
  MakeFolder(folder_);
  std::error_code unreadable;
  for (const auto& entry : fs::directory_iterator(folder_, unreadable)) {
    const std::string name = entry.path().filename().string();
    const std::string partial = std::string(kSuffix) + ".partial";
    if (!name.starts_with(kPrefix) || !name.ends_with(partial)) continue;
    log.Warning("removing {}: a save was interrupted", entry.path().string());
    std::error_code ignored;
    fs::remove(entry.path(), ignored);
  }
  if (unreadable) {
    throw Error(ExitCode::kDisk, fmt::format("cannot read {}: {}", folder_, unreadable.message()));
  }
}

std::vector<std::string> CheckpointFolder::NewestFirst() const {
  std::vector<std::string> paths;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder_, ignored)) {
    if (IsNumberedCheckpoint(entry.path().filename().string())) {
      paths.push_back(entry.path().string());
    }
  }
  // Nine digits sort as numbers; more digits are later.
  std::sort(paths.begin(), paths.end(), [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() > b.size() : a > b;
  });
  return paths;
}

std::optional<std::string> CheckpointFolder::NewestValid(Log& log) const {
  const std::vector<std::string> paths = NewestFirst();
  for (const std::string& path : paths) {
    try {
      SafetensorsReader(path).VerifyChecksums();
      return path;
    } catch (const Error& error) {
      log.Warning("skipping a checkpoint: {}", error.what());
    }
  }
  if (paths.empty()) return std::nullopt;
  throw Error(ExitCode::kCheckpoint,
              fmt::format("none of the {} checkpoints in {} can be used", paths.size(), folder_),
              "start anew with --resume none and another --output-dir, or restore a backup");
}

void CheckpointFolder::SetAsideAfter(int64_t step, Log& log) const {
  const std::string last = PathOf(step);
  for (const std::string& path : NewestFirst()) {
    if (path.size() == last.size() ? path <= last : path.size() < last.size()) break;
    std::error_code error;
    fs::rename(path, path + ".abandoned", error);
    if (error) {
      throw Error(ExitCode::kDisk, fmt::format("cannot rename {}: {}", path, error.message()));
    }
    log.Warning("the run goes on from step {}; {} is kept as {}.abandoned", step, path, path);
  }
}

void CheckpointFolder::Prune(int keep) const {
  const std::vector<std::string> paths = NewestFirst();
  for (size_t i = static_cast<size_t>(std::max(keep, 1)); i < paths.size(); ++i) {
    std::error_code ignored;
    fs::remove(paths[i], ignored);
  }
}

void CheckpointFolder::MarkBest(int64_t step) const {
  const std::string temporary = best_path() + ".partial";
  std::error_code error;
  fs::remove(temporary, error);
  fs::create_hard_link(PathOf(step), temporary, error);
  // A file system without hard links gets a copy.
  if (error) fs::copy_file(PathOf(step), temporary, fs::copy_options::overwrite_existing, error);
  if (!error) fs::rename(temporary, best_path(), error);
  if (error) {
    throw Error(ExitCode::kDisk, fmt::format("cannot write {}: {}", best_path(), error.message()));
  }
}

}  // namespace convoy
