#include "core/host/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

namespace convoy {
namespace {

std::string ErrnoText() { return std::error_code(errno, std::generic_category()).message(); }

[[noreturn]] void ThrowDisk(const std::string& path, const char* action) {
  const bool full = errno == ENOSPC || errno == EDQUOT;
  throw Error(ExitCode::kDisk, fmt::format("cannot {} {}: {}", action, path, ErrnoText()),
              full ? "free some space, then run the same command again"
                   : "check that the folder exists and may be written");
}

void SyncFolderOf(const std::string& path) {
  const std::string folder = std::filesystem::absolute(path).parent_path().string();
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) ThrowDisk(folder, "open");
  // Some file systems refuse fsync of a folder; there the rename itself is all that can be had.
  if (fsync(descriptor) != 0 && errno != EINVAL) {
    close(descriptor);
    ThrowDisk(folder, "sync");
  }
  close(descriptor);
}

}  // namespace

File::File(int descriptor, std::string path, int64_t size)
    : descriptor_(descriptor), path_(std::move(path)), size_(size) {}

File::File(File&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)),
      path_(std::move(other.path_)),
      size_(std::exchange(other.size_, 0)) {}

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    Close();
    descriptor_ = std::exchange(other.descriptor_, -1);
    path_ = std::move(other.path_);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

File::~File() { Close(); }

void File::Close() noexcept {
  if (descriptor_ >= 0) close(descriptor_);
  descriptor_ = -1;
}

File File::OpenForReading(const std::string& path, ExitCode exit_code) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    throw Error(exit_code, fmt::format("cannot open {}: {}", path, ErrnoText()),
                "check the path and its permissions");
  }
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor);
    throw Error(exit_code, fmt::format("{} is not a regular file", path));
  }
  return File(descriptor, path, status.st_size);
}

void File::WillReadAt(int64_t offset, int64_t bytes) const {
  // Advice: a file system that does not take it loses nothing.
  posix_fadvise(descriptor_, offset, bytes, POSIX_FADV_WILLNEED);
}

void File::ReadAt(int64_t offset, void* data, int64_t bytes) const {
  constexpr int kAttempts = 4;
  int64_t done = 0;
  int failures = 0;
  while (done < bytes) {
    const ssize_t count = pread(descriptor_, static_cast<char*>(data) + done,
                                static_cast<size_t>(bytes - done), offset + done);
    if (count > 0) {
      done += count;
      continue;
    }
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && ++failures < kAttempts) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50 << failures));
      continue;
    }
    throw Error(ExitCode::kDisk,
                fmt::format("reading {} at byte {}: expected {} bytes, found {}{}", path_, offset,
                            bytes, done, count < 0 ? " (" + ErrnoText() + ")" : " and its end"),
                "the file is shorter than when it was opened, or the disk fails");
  }
}

AtomicFile::AtomicFile(std::string path, const std::string& partial_suffix)
    : path_(std::move(path)), partial_path_(path_ + partial_suffix) {
  const int descriptor =
      open(partial_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) ThrowDisk(partial_path_, "create");
  file_ = File(descriptor, partial_path_, 0);
}

AtomicFile::~AtomicFile() {
  if (!committed_) unlink(partial_path_.c_str());
}

void AtomicFile::Write(const void* data, int64_t bytes) {
  WriteAt(bytes_written_, data, bytes);
  bytes_written_ += bytes;
}

void AtomicFile::WriteAt(int64_t offset, const void* data, int64_t bytes) {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t count = pwrite(file_.descriptor(), static_cast<const char*>(data) + done,
                                 static_cast<size_t>(bytes - done), offset + done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) ThrowDisk(partial_path_, "write");
    done += count;
  }
}

void AtomicFile::Commit() {
  if (fsync(file_.descriptor()) != 0) ThrowDisk(partial_path_, "sync");
  if (rename(partial_path_.c_str(), path_.c_str()) != 0) ThrowDisk(path_, "rename onto");
  committed_ = true;
  SyncFolderOf(path_);
}

FolderLock::FolderLock(const std::string& folder) {
  const std::string path = folder + "/.lock";
  const int descriptor = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) ThrowDisk(path, "create");
  file_ = File(descriptor, path, 0);
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) ThrowDisk(path, "lock");
    throw Error(ExitCode::kUsage, fmt::format("another run is writing into {}", folder),
                "wait for it, stop it, or give another folder");
  }
}

std::string ReadText(const std::string& path, ExitCode exit_code) {
  const File file = File::OpenForReading(path, exit_code);
  std::string text(static_cast<size_t>(file.size()), '\0');
  file.ReadAt(0, text.data(), file.size());
  return text;
}

void WriteText(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.Write(text.data(), static_cast<int64_t>(text.size()));
  file.Commit();
}

void WriteSharedText(const std::string& path, std::string_view text) {
  static std::atomic<int> written{0};
  char host[HOST_NAME_MAX + 1] = {};
  gethostname(host, sizeof(host) - 1);
  AtomicFile file(path, fmt::format(".{}-{}-{}.partial", host, getpid(), written++));
  file.Write(text.data(), static_cast<int64_t>(text.size()));
  file.Commit();
}

bool PathExists(const std::string& path) {
  std::error_code unreachable;
  return std::filesystem::exists(path, unreachable);
}

void MakeFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    throw Error(ExitCode::kDisk, fmt::format("cannot create folder {}: {}", path, error.message()),
                "give a folder that may be written");
  }
}

int64_t FreeBytes(const std::string& path) {
  struct statvfs status {};
  if (statvfs(path.c_str(), &status) != 0) ThrowDisk(path, "examine");
  return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
}

}  // namespace convoy
