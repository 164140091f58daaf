// core/host/files.h - files as Convoy needs them: positional reads that survive short reads and
// signals, writes that are either whole or not there, and a lock on a folder.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"

namespace convoy {

// Throws with the given exit code unless `path` is a regular file. Never opens it.
void RequireRegularFile(const std::string& path, ExitCode exit_code);

// An open file, closed when destroyed. Move-only.
class File {
 public:
  File() = default;
  // Throws with the given exit code (kData for a data set, kCheckpoint for a checkpoint, ...).
  static File OpenForReading(const std::string& path, ExitCode exit_code);

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  const std::string& path() const { return path_; }
  int descriptor() const { return descriptor_; }
  int64_t size() const { return size_; }
  explicit operator bool() const { return descriptor_ >= 0; }

  // Reads exactly `bytes` bytes at `offset`. Thread-safe. Goes on after signals and short reads,
  // and tries three more times, with growing pauses, after an I/O error. Throws (kDisk) naming the
  // file, the offset, expected and found bytes.
  void ReadAt(int64_t offset, void* data, int64_t bytes) const;
  // Tells the system that these bytes will be read soon. Returns at once and never fails.
  void WillReadAt(int64_t offset, int64_t bytes) const;

 private:
  friend class AppendedFile;
  friend class AtomicFile;
  friend class FolderLock;
  File(int descriptor, std::string path, int64_t size);
  void Close() noexcept;

  int descriptor_ = -1;
  std::string path_;
  int64_t size_ = 0;
};

// Writes a file that appears whole or not at all: a temporary file beside it, fsync, rename, fsync
// of the folder. Destroyed without Commit(), it removes the temporary file. All errors are kDisk.
class AtomicFile {
 public:
  // The temporary file is `path` + `partial_suffix`.
  explicit AtomicFile(std::string path, const std::string& partial_suffix = ".partial");
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends.
  void Write(const void* data, int64_t bytes);
  // Overwrites bytes that were written before.
  void WriteAt(int64_t offset, const void* data, int64_t bytes);
  int64_t bytes_written() const { return bytes_written_; }
  void Commit();

 private:
  std::string path_;
  std::string partial_path_;
  File file_;
  int64_t bytes_written_ = 0;
  bool committed_ = false;
};

// A file that grows by whole pieces. All errors are kDisk.
class AppendedFile {
 public:
  // Creates the file if it is missing.
  explicit AppendedFile(const std::string& path);
  // Writes all of `text` at the end, or none of it if an error leaves that possible. Goes on
  // after signals and short writes.
  void Append(std::string_view text);

 private:
  File file_;
};

// Holds `folder`/.lock while it lives, so that two runs never write into one folder. The kernel
// drops the lock when the process dies, however it dies.
class FolderLock {
 public:
  // Throws (kUsage) when another process holds it, (kDisk) when the folder cannot be written.
  explicit FolderLock(const std::string& folder);
  FolderLock(FolderLock&& other) noexcept = default;
  FolderLock& operator=(FolderLock&& other) noexcept = default;

  // Returns what to tell the user if the file system knows no locks, so that this one keeps nobody
  // out. Else empty.
  const std::string& warning() const { return warning_; }
  // Removes the file of the lock if it was not there before. Call it only at the end.
  void RemoveIfCreated();

 private:
  bool IsStillAt(const std::string& path) const;

  File file_;
  bool created_ = false;
  std::string warning_;
};

// Throws (kDisk) unless a file can be created in `folder`. Leaves no file.
void ProbeWriting(const std::string& folder);
// Returns the whole file as text. Throws with `exit_code` when it cannot be read, or is larger.
std::string ReadText(const std::string& path, ExitCode exit_code, int64_t max_bytes = INT64_MAX);
// Writes `text` by AtomicFile.
void WriteText(const std::string& path, std::string_view text);
// The same for a `path` that others, of this host or another, may write at the same time: the last
// one has it, and the file always holds what only one of them wrote.
void WriteSharedText(const std::string& path, std::string_view text);
// Returns a suffix for the temporary file of an AtomicFile, which no other process, of this host or
// another, and no other call gives. For files that several processes may write at the same time:
// the last to commit has it, and the file is always written by only one of them.
std::string UniquePartialSuffix();
// Returns false for "" and for what this process may not look at: reading or writing there says so.
bool PathExists(const std::string& path);
// Creates the folder and its parents. Throws (kDisk).
void MakeFolder(const std::string& path);
// Returns $XDG_CACHE_HOME/convoy, or ~/.cache/convoy if that is not set; empty if $HOME is not set
// either. Both must be absolute to count.
std::string CacheFolder();
// Returns the bytes that an unprivileged process may still write to the file system of `path`.
int64_t FreeBytes(const std::string& path);

}  // namespace convoy
