#include "dataloader/sources/folder.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/host/files.h"
#include "core/text.h"
#include "dataloader/archives/names.h"
#include "dataloader/archives/tar.h"
#include "dataloader/images/image.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

constexpr int kDeepestFolder = 4;

const char* KindOf(fs::file_type type) {
  switch (type) {
    case fs::file_type::fifo:
      return "pipe";
    case fs::file_type::socket:
      return "socket";
    case fs::file_type::block:
    case fs::file_type::character:
      return "device";
    case fs::file_type::not_found:
      return "link to nothing";
    case fs::file_type::directory:
      return "folder";
    default:
      return "file of an unknown kind";
  }
}

// Returns what an entry is, or what it leads to if it is a link. Asks the file system only about
// links and special files, once each: reading the folder has told the others.
fs::file_type TypeOf(const fs::directory_entry& entry) {
  std::error_code unknown;
  if (!entry.is_symlink(unknown)) {
    if (entry.is_regular_file(unknown)) return fs::file_type::regular;
    if (entry.is_directory(unknown)) return fs::file_type::directory;
  }
  return entry.status(unknown).type();
}

[[noreturn]] void FailToRead(const fs::path& folder, const std::error_code& error) {
  throw Error(ExitCode::kData,
              fmt::format("cannot read the folder {}: {}", folder.string(), error.message()),
              "check its permissions");
}

std::string Joined(const std::string& folder, const std::string& name) {
  return folder.empty() ? name : fmt::format("{}/{}", folder, name);
}

bool IsExitRecord(const std::string& name) {
  return name.starts_with("exit.") && name.ends_with(".json");
}

// Returns whether `path` is a folder that a run of Convoy was written into.
bool IsRunFolder(const std::string& path) {
  std::error_code unknown;
  const fs::path folder(path);
  if (fs::is_regular_file(folder / "config.cfg", unknown) &&
      fs::is_directory(folder / "checkpoints", unknown)) {
    return true;
  }
  // A run that ended before it began has left only its reason.
  bool has_record = false;
  for (fs::directory_iterator entry(folder, unknown); !unknown && entry != fs::directory_iterator();
       entry.increment(unknown)) {
    const std::string name = entry->path().filename().string();
    if (IsExitRecord(name)) {
      has_record = true;
    } else if (!IsIgnoredName(name)) {
      return false;
    }
  }
  return has_record && !unknown;
}

class FolderReader {
 public:
  explicit FolderReader(const std::string& root) : root_(root), root_is_run_(IsRunFolder(root)) {}

  FolderContents Finish() {
    Read("", 0);
    contents_.members = builder_.Finish({});
    std::sort(contents_.runs.begin(), contents_.runs.end());
    return std::move(contents_);
  }

 private:
  // Returns whether the folder holds something besides the folders of runs, or is empty.
  bool Read(const std::string& relative, int depth);
  bool ReadSubfolder(const std::string& relative, const std::string& name, int depth);
  // Returns whether the file is an image.
  bool Take(fs::file_type type, const std::string& relative, const std::string& name,
            LeftOut& left_out);

  fs::path root_;
  bool root_is_run_;
  MemberTableBuilder builder_;
  FolderContents contents_;
};

bool FolderReader::Read(const std::string& relative, int depth) {
  const fs::path path = relative.empty() ? root_ : root_ / relative;
  LeftOut left_out;
  int64_t images = 0, folders = 0;
  bool holds_runs = false;
  std::error_code error;
  fs::directory_iterator entry(path, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (IsIgnoredName(name)) continue;
    const fs::file_type type = TypeOf(*entry);
    if (type != fs::file_type::directory) {
      images += Take(type, relative, name, left_out);
    } else if (ReadSubfolder(relative, name, depth)) {
      ++folders;
    } else {
      holds_runs = true;
    }
  }
  if (error) FailToRead(path, error);
  if (images == 0 && !left_out.empty()) contents_.left_out_of[relative] = left_out;
  const bool counts = images > 0 || folders > 0 || !holds_runs;
  // An empty folder is a class without images, which the user must be told of.
  if (counts && !relative.empty()) builder_.Folder(relative);
  contents_.left_out.Add(left_out);
  return counts;
}

bool FolderReader::ReadSubfolder(const std::string& relative, const std::string& name, int depth) {
  const std::string below = Joined(relative, name);
  // A run may have been written directly into the folder of the images.
  const bool belongs_to_run =
      relative.empty() && root_is_run_ && (name == "checkpoints" || name.starts_with("previous-"));
  if (belongs_to_run || IsRunFolder((root_ / below).string())) {
    contents_.runs.push_back(below);
    return false;
  }
  if (depth < kDeepestFolder) return Read(below, depth + 1);
  contents_.left_out.Add(fmt::format("folder below {} others", kDeepestFolder), below);
  return true;
}

bool FolderReader::Take(fs::file_type type, const std::string& relative, const std::string& name,
                        LeftOut& left_out) {
  const bool is_regular = type == fs::file_type::regular;
  const bool is_dangling = type == fs::file_type::not_found;
  // Follows links: a folder on disk is the user's own.
  const bool is_image = IsImageName(name) && (is_regular || is_dangling);
  if (is_image) builder_.Add(builder_.Folder(relative), name, 0, 0, 0);
  if (is_image && is_regular) return true;
  const std::string path = Joined(relative, name);
  if (is_image) {
    contents_.dangling.Add(KindOf(type), path);
  } else if (is_regular) {
    left_out.AddFile(path);
  } else if (is_dangling && ExtensionOf(name).empty()) {
    throw Error(ExitCode::kData,
                fmt::format("{} is a link to nothing, and may stand for a folder of images",
                            (root_ / path).string()),
                "mount or fetch what it leads to, or remove the link");
  } else {
    left_out.Add(KindOf(type), path);
  }
  return is_image;
}

// The first bytes of a file, and how many there are.
struct FileStart {
  uint8_t block[kTarBlock] = {};
  size_t bytes = 0;

  bool IsTar() const { return bytes == kTarBlock && IsTarHeader(block); }
  std::string Describe() const { return DescribeContent(block, bytes); }
};

// Throws (kData) if the file cannot be opened.
FileStart ReadStart(const std::string& path) {
  const File file = File::OpenForReading(path, ExitCode::kData);
  FileStart start;
  start.bytes = static_cast<size_t>(std::min<int64_t>(file.size(), kTarBlock));
  file.ReadAt(0, start.block, static_cast<int64_t>(start.bytes));
  return start;
}

// Returns whether a name is of a kind that usually lies beside archives and is none: notes, lists,
// sums, settings, programs.
bool IsNote(const std::string& name) {
  constexpr std::array<std::string_view, 32> kExtensions = {
      "json", "jsonl",  "txt",    "md",  "rst",    "csv",    "tsv",  "yaml",
      "yml",  "toml",   "cfg",    "ini", "xml",    "pdf",    "bib",  "idx",
      "log",  "index",  "py",     "sh",  "sig",    "asc",    "md5",  "md5sum",
      "sha1", "sha224", "sha256", "sum", "sha384", "sha512", "html", "ipynb"};
  const std::string extension = ExtensionOf(name);
  if (std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end()) {
    return true;
  }
  // README, LICENSE, SHA256SUMS, MD5SUMS
  return extension.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isupper(c) || std::isdigit(c) || c == '-' || c == '_';
         });
}

// Finds out by its content whether a file is a tar.
void TakeFile(const std::string& path, FolderListing& listing) {
  FileStart start;
  try {
    start = ReadStart(path);
  } catch (const Error& error) {
    if (error.exit_code() != ExitCode::kData) throw;
    listing.strays.push_back({path, "a file that cannot be read"});
    return;
  }
  if (start.IsTar()) {
    listing.tars.push_back(path);
    return;
  }
  const std::string what = start.Describe();
  listing.strays.push_back({path, what == "a tar" ? "a tar that is cut off or damaged" : what});
}

}  // namespace

FolderContents ReadFolders(const std::string& root) { return FolderReader(root).Finish(); }

std::vector<std::string> NamesOfOtherFiles(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::string name = entry->path().filename().string();
    std::error_code unknown;
    if (IsIgnoredName(name) || IsImageName(name) || entry->is_directory(unknown)) continue;
    names.push_back(std::move(name));
  }
  if (error) FailToRead(folder, error);
  std::sort(names.begin(), names.end());
  return names;
}

FolderListing ListFolder(const std::string& path) {
  FolderListing listing;
  std::error_code error;
  fs::directory_iterator entry(path, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string(), file = entry->path().string();
    if (IsIgnoredName(name)) continue;
    const fs::file_type type = TypeOf(*entry);
    if (type == fs::file_type::directory) {
      if (!IsRunFolder(file)) listing.folders.push_back(file);
    } else if (IsImageName(name)) {
      if (listing.first_image.empty() || file < listing.first_image) listing.first_image = file;
    } else if (type != fs::file_type::regular) {
      listing.strays.push_back({file, fmt::format("a {}", KindOf(type))});
    } else if (IsNote(name)) {
      listing.notes.AddFile(name);
    } else {
      TakeFile(file, listing);
    }
  }
  if (error) FailToRead(path, error);
  std::sort(listing.tars.begin(), listing.tars.end());
  std::sort(listing.folders.begin(), listing.folders.end());
  std::sort(listing.strays.begin(), listing.strays.end(),
            [](const auto& a, const auto& b) { return a.path < b.path; });
  return listing;
}

bool IsTarFile(const std::string& path) { return ReadStart(path).IsTar(); }

std::string DescribeFile(const std::string& path) { return ReadStart(path).Describe(); }

}  // namespace convoy
