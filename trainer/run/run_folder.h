// trainer/run/run_folder.h - the folder that a run writes into: its lock, its configuration, and
// what an earlier run left there.
//
// A start may be refused until the last check. So first everything is read, and only Begin()
// changes what an earlier run left.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/host/files.h"
#include "core/host/log.h"
#include "trainer/checkpoint/checkpoint.h"

namespace convoy {

// Only rank 0 makes one.
class RunFolder {
 public:
  // Creates and locks the folder, and checks that it can be written. Throws (kDisk, kUsage).
  RunFolder(const std::string& path, Log& log);
  // Without Begin(), removes what the constructor made.
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  // Where to go on, by --resume: "auto" (the newest valid checkpoint here, nothing in an empty
  // folder), "none" (nothing), or a file. Throws (kCheckpoint) if a checkpoint cannot be used, or
  // if best.safetensors is all that an earlier run left.
  std::optional<std::string> CheckpointToResume(const std::string& resume, Log& log);
  // Throws (kDisk) unless there is room for two checkpoints of `state_bytes`.
  void RequireRoom(int64_t state_bytes) const;
  // The run begins, or goes on from `step`. What an earlier run left and this one does not go on
  // with is moved to PATH/previous-N or set aside as ".abandoned"; its exit records are removed;
  // `settings` become config.cfg. Throws (kDisk).
  void Begin(std::optional<int64_t> step, const std::string& settings, Log& log);

  const CheckpointFolder& checkpoints() const { return checkpoints_; }
  std::string metrics_path() const { return path_ + "/metrics.jsonl"; }

 private:
  bool IsInHere(const std::string& checkpoint) const;
  bool HoldsARun() const;
  void MoveEarlierRunAside(Log& log);

  std::string path_;
  std::vector<std::string> created_;  // folders, outermost first
  std::optional<FolderLock> lock_;
  CheckpointFolder checkpoints_;
  std::string why_aside_;  // empty: the earlier run, if there is one, goes on
  bool begun_ = false;
};

}  // namespace convoy
