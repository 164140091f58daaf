// trainer/run/run_folder.h - the folder that a run writes into: its lock, its configuration, and
// what an earlier run left there.
#pragma once

#include <optional>
#include <string>

#include "core/host/files.h"
#include "core/host/log.h"
#include "trainer/checkpoint/checkpoint.h"

namespace convoy {

// Rank 0 alone makes one.
class RunFolder {
 public:
  // Creates and locks the folder, checks that it can be written and has room for two checkpoints of
  // `state_bytes`. Throws (kDisk, kUsage).
  RunFolder(const std::string& path, int64_t state_bytes);

  // Where to go on, by --resume: "auto" (the newest valid checkpoint here, nothing in an empty
  // folder), "none" (nothing; an earlier run is moved into PATH/previous-N), or a file.
  std::optional<std::string> CheckpointToResume(const std::string& resume, Log& log);

  void WriteSettings(const std::string& settings);

  const CheckpointFolder& checkpoints() const { return checkpoints_; }
  std::string metrics_path() const { return path_ + "/metrics.jsonl"; }

 private:
  void MoveEarlierRunAside(Log& log);

  std::string path_;
  FolderLock lock_;
  CheckpointFolder checkpoints_;
};

}  // namespace convoy
