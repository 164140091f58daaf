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
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

namespace convoy {
namespace {

std::string ErrnoText() { return std::error_code(errno, std::generic_category()).message(); }

[[noreturn]] void ThrowDisk(const std::string& path, const char* action) {
  const char* hint = "check that the folder exists and may be written";
  if (errno == ENOSPC || errno == EDQUOT) hint = "free some space, then start again";
  if (errno == EFBIG) hint = "raise the limit on the size of files (ulimit -f), then start again";
  throw Error(ExitCode::kDisk, fmt::format("cannot {} {}: {}", action, path, ErrnoText()), hint);
}

// Calls `action`, which answers < 0 on failure, until no signal interrupts it.
template <typename Action>
auto RetryInterrupted(const Action& action) {
  auto result = action();
  while (result < 0 && errno == EINTR) result = action();
  return result;
}

const char* KindOf(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return S_ISCHR(mode) || S_ISBLK(mode) ? "a device" : "neither a file nor a folder";
}

[[noreturn]] void RefuseAsNoFile(const std::string& path, mode_t mode, ExitCode exit_code) {
  throw Error(exit_code, fmt::format("{} is {}, expected a file", path, KindOf(mode)),
              S_ISDIR(mode)
                  ? "give a file"
                  : "it is read at any place and more than once: write it to a file first");
}

void SyncFolderOf(const std::string& path) {
  const std::string folder = std::filesystem::absolute(path).parent_path().string();
  const int descriptor = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) ThrowDisk(folder, "open");
  // Some file systems refuse fsync of a folder; there the rename itself is all that can be had.
  if (RetryInterrupted([&] { return fsync(descriptor); }) != 0 && errno != EINVAL) {
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

void RequireRegularFile(const std::string& path, ExitCode exit_code) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    throw Error(exit_code, fmt::format("cannot examine {}: {}", path, ErrnoText()),
                "check the path and its permissions");
  }
  if (!S_ISREG(status.st_mode)) RefuseAsNoFile(path, status.st_mode, exit_code);
}

File File::OpenForReading(const std::string& path, ExitCode exit_code) {
  // Without O_NONBLOCK the opening of a pipe would wait for a writer.
  const int descriptor =
      RetryInterrupted([&] { return open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); });
  if (descriptor < 0) {
    throw Error(exit_code, fmt::format("cannot open {}: {}", path, ErrnoText()),
                "check the path and its permissions");
  }
  struct stat status {};
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor);
    RefuseAsNoFile(path, status.st_mode, exit_code);
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
    if (count == 0) errno = ENOSPC;  // nothing was taken, and nobody said why
    if (count <= 0) ThrowDisk(partial_path_, "write");
    done += count;
  }
}

void AtomicFile::Commit() {
  if (RetryInterrupted([&] { return fsync(file_.descriptor()); }) != 0)
    ThrowDisk(partial_path_, "sync");
  if (rename(partial_path_.c_str(), path_.c_str()) != 0) ThrowDisk(path_, "rename onto");
  committed_ = true;
  SyncFolderOf(path_);
}

AppendedFile::AppendedFile(const std::string& path) {
  const int descriptor = RetryInterrupted(
      [&] { return open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666); });
  if (descriptor < 0) ThrowDisk(path, "write");
  file_ = File(descriptor, path, 0);
}

void AppendedFile::Append(std::string_view text) {
  const int descriptor = file_.descriptor();
  struct stat before {};
  const bool is_known = fstat(descriptor, &before) == 0 && S_ISREG(before.st_mode);
  for (size_t done = 0; done < text.size();) {
    const ssize_t count =
        RetryInterrupted([&] { return write(descriptor, text.data() + done, text.size() - done); });
    if (count > 0) {
      done += static_cast<size_t>(count);
      continue;
    }
    const int reason = count < 0 ? errno : ENOSPC;
    // Half a line would spoil the next one.
    [[maybe_unused]] const bool is_as_before =
        done == 0 || (is_known && ftruncate(descriptor, before.st_size) == 0);
    errno = reason;
    ThrowDisk(file_.path(), "write");
  }
}

FolderLock::FolderLock(const std::string& folder) {
  const std::string path = folder + "/.lock";
  constexpr int kFlags = O_RDWR | O_CREAT | O_CLOEXEC;
  do {
    int descriptor = open(path.c_str(), kFlags | O_EXCL, 0666);
    created_ = descriptor >= 0;
    if (!created_) descriptor = open(path.c_str(), kFlags, 0666);
    if (descriptor < 0) ThrowDisk(path, "create");
    file_ = File(descriptor, path, 0);
    if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) {
        throw Error(ExitCode::kUsage, fmt::format("another run is writing into {}", folder),
                    "wait for it, stop it, or give another folder");
      }
      // Lustre, NFS and FUSE may know no locks.
      if (errno != ENOSYS && errno != EOPNOTSUPP && errno != ENOLCK) ThrowDisk(path, "lock");
      warning_ = fmt::format(
          "{} cannot be locked ({}): two runs that write there at once would not be noticed",
          folder, ErrnoText());
      return;
    }
    // Whoever held it before may have removed it in the meantime.
  } while (!IsStillAt(path));
}

bool FolderLock::IsStillAt(const std::string& path) const {
  struct stat held {
  }, found{};
  return fstat(file_.descriptor(), &held) == 0 && stat(path.c_str(), &found) == 0 &&
         held.st_ino == found.st_ino && held.st_dev == found.st_dev;
}

void FolderLock::RemoveIfCreated() {
  if (created_ && file_) unlink(file_.path().c_str());
  created_ = false;
}

void ProbeWriting(const std::string& folder) {
  const std::string path = fmt::format("{}/.probe-{}", folder, getpid());
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) ThrowDisk(folder, "write into");
  close(descriptor);
  unlink(path.c_str());
}

std::string ReadText(const std::string& path, ExitCode exit_code, int64_t max_bytes) {
  const File file = File::OpenForReading(path, exit_code);
  if (file.size() > max_bytes) {
    throw Error(exit_code, fmt::format("{}: expected a text of at most {} bytes, found {}", path,
                                       max_bytes, file.size()));
  }
  std::string text(static_cast<size_t>(file.size()), '\0');
  file.ReadAt(0, text.data(), file.size());
  return text;
}

void WriteText(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.Write(text.data(), static_cast<int64_t>(text.size()));
  file.Commit();
}

std::string UniquePartialSuffix() {
  static std::atomic<int> given{0};
  char host[HOST_NAME_MAX + 1] = {};
  gethostname(host, sizeof(host) - 1);
  return fmt::format(".{}-{}-{}.partial", host, getpid(), given++);
}

void WriteSharedText(const std::string& path, std::string_view text) {
  AtomicFile file(path, UniquePartialSuffix());
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

std::string CacheFolder() {
  const auto absolute = [](const char* variable) -> std::string {
    const char* value = std::getenv(variable);
    return value != nullptr && value[0] == '/' ? value : "";
  };
  const std::string cache = absolute("XDG_CACHE_HOME"), home = absolute("HOME");
  if (!cache.empty()) return cache + "/convoy";
  return home.empty() ? home : home + "/.cache/convoy";
}

int64_t FreeBytes(const std::string& path) {
  struct statvfs status {};
  if (statvfs(path.c_str(), &status) != 0) ThrowDisk(path, "examine");
  return static_cast<int64_t>(status.f_bavail) * static_cast<int64_t>(status.f_frsize);
}

}  // namespace convoy
