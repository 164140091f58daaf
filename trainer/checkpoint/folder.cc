#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <tuple>

#include "core/host/files.h"
#include "core/text.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/checkpoint/info.h"
#include "trainer/checkpoint/safetensors.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = "step-";
constexpr const char* kSuffix = ".safetensors";

// The number in the name of a checkpoint, or nothing for other files.
std::optional<int64_t> NumberIn(const std::string& name) {
  const std::string_view prefix = kPrefix, suffix = kSuffix;
  if (!name.starts_with(prefix) || !name.ends_with(suffix)) return std::nullopt;
  const auto digits =
      std::string_view(name).substr(prefix.size(), name.size() - prefix.size() - suffix.size());
  const bool is_number = !digits.empty() && std::all_of(digits.begin(), digits.end(), [](char c) {
    return c >= '0' && c <= '9';
  });
  return is_number ? ParseInteger(digits) : std::nullopt;
}

// The step of a checkpoint by its own word. Nothing if it cannot be read.
std::optional<int64_t> StepIn(const std::string& path) {
  try {
    return InfoFrom(SafetensorsReader(path).metadata(), path).step;
  } catch (const Error&) {
    return std::nullopt;
  }
}

// Throws (kDisk).
void Rename(const std::string& from, const std::string& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) {
    throw Error(ExitCode::kDisk,
                fmt::format("cannot rename {} to {}: {}", from, to, error.message()));
  }
}

}  // namespace

std::string FreeName(const std::string& path, const char* suffix) {
  std::string name = path + suffix;
  for (int n = 2; PathExists(name); ++n) name = fmt::format("{}{}-{}", path, suffix, n);
  return name;
}

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

std::vector<CheckpointFolder::Numbered> CheckpointFolder::NewestFirst() const {
  std::vector<Numbered> found;
  std::error_code error;
  fs::directory_iterator entry(folder_, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::optional<int64_t> number = NumberIn(entry->path().filename().string());
    if (!number) continue;
    const std::string path = entry->path().string();
    const std::optional<int64_t> step = StepIn(path);
    found.push_back({.path = path,
                     .number = *number,
                     .step = step.value_or(*number),
                     .is_own = step == number && path == PathOf(*number)});
  }
  // A folder that cannot be read now may hold all that a run has.
  if (error && error != std::errc::no_such_file_or_directory) {
    throw Error(ExitCode::kDisk, fmt::format("cannot read {}: {}", folder_, error.message()),
                "check that the folder may be read, then start again");
  }
  std::sort(found.begin(), found.end(), [](const Numbered& a, const Numbered& b) {
    return std::tie(a.step, a.is_own, a.path) > std::tie(b.step, b.is_own, b.path);
  });
  return found;
}

std::optional<std::string> CheckpointFolder::NewestValid(Log& log) const {
  const std::vector<Numbered> found = NewestFirst();
  for (const Numbered& checkpoint : found) {
    try {
      const SafetensorsReader reader(checkpoint.path);
      InfoFrom(reader.metadata(), checkpoint.path);
      reader.VerifyChecksums();
    } catch (const Error& error) {
      log.Warning("skipping a checkpoint: {}", error.what());
      continue;
    }
    if (checkpoint.step != checkpoint.number) {
      log.Warning("{} holds step {}, whatever its name says", checkpoint.path, checkpoint.step);
    }
    return checkpoint.path;
  }
  if (found.empty()) return std::nullopt;
  throw Error(ExitCode::kCheckpoint,
              fmt::format("none of the {} checkpoints in {} can be used", found.size(), folder_),
              "start anew with --resume none, which keeps them, or restore a backup");
}

bool CheckpointFolder::SetAsideAfter(int64_t step, Log& log) const {
  std::vector<std::string> later;
  for (const Numbered& checkpoint : NewestFirst()) {
    if (std::max(checkpoint.number, checkpoint.step) > step) later.push_back(checkpoint.path);
  }
  if (PathExists(best_path()) && StepIn(best_path()).value_or(step) > step) {
    later.push_back(best_path());
  }
  for (const std::string& path : later) {
    const std::string aside = FreeName(path, ".abandoned");
    Rename(path, aside);
    log.Warning("the run goes on from step {}; {} is kept as {}", step, path, aside);
  }
  return !later.empty();
}

void CheckpointFolder::Prune(int keep) const {
  std::vector<Numbered> found;
  try {
    found = NewestFirst();
  } catch (const Error&) {
    return;  // the next save prunes
  }
  int kept = 0;
  for (const Numbered& checkpoint : found) {
    if (!checkpoint.is_own || kept++ < std::max(keep, 1)) continue;
    std::error_code ignored;
    fs::remove(checkpoint.path, ignored);
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
