#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "core/host/files.h"
#include "core/text.h"
#include "dataloader/archives/names.h"
#include "dataloader/sources/folder.h"
#include "dataloader/sources/sources.h"

namespace convoy {
namespace {

void ReadWhole(const std::string& path, std::vector<uint8_t>& into) {
  const File file = File::OpenForReading(path, ExitCode::kDisk);
  if (file.size() > kLargestMember) {
    throw Error(ExitCode::kData, fmt::format("{} bytes, an image of at most {} expected",
                                             file.size(), kLargestMember));
  }
  into.resize(static_cast<size_t>(file.size()));
  file.ReadAt(0, into.data(), file.size());
}

namespace fs = std::filesystem;

int64_t SizeOnDisk(const std::string& path) {
  std::error_code error;
  const auto bytes = fs::file_size(path, error);
  return error ? -1 : static_cast<int64_t>(bytes);
}

class MemberDataset final : public Dataset {
 public:
  MemberDataset(MemberSource source, bool labelled)
      : source_(std::move(source)), labelled_(labelled) {
    const MemberTable& members = source_.members;
    first_ = members.folder_begin[source_.layout.first];
    size_ = members.folder_begin[source_.layout.last] - first_;
    if (!labelled_) source_.layout.classes.clear();
  }

  int64_t size() const override { return size_; }
  const std::vector<std::string>& classes() const override { return source_.layout.classes; }

  int32_t Label(int64_t sample) const override {
    if (!labelled_) return -1;
    return source_.layout.labels[FolderOfSample(sample) - source_.layout.first];
  }

  std::string Name(int64_t sample) const override {
    const size_t folder_index = FolderOfSample(sample);
    const std::string& folder = source_.members.folders[folder_index];
    const std::string name(source_.members.Name(first_ + sample));
    if (labelled_) {
      const auto label =
          static_cast<size_t>(source_.layout.labels[folder_index - source_.layout.first]);
      const std::string class_prefix = source_.layout.classes[label] + "/";
      // Packed shards have it in the name already.
      return name.starts_with(class_prefix) ? name : class_prefix + name;
    }
    return folder.empty() ? name : folder + "/" + name;
  }

  std::string Location(int64_t sample) const override {
    const auto member = static_cast<size_t>(first_ + sample);
    if (source_.archives.empty()) return PathOf(sample);
    return fmt::format("{} at byte {}", source_.archives[source_.members.archive[member]]->name(),
                       source_.members.offset[member]);
  }

  std::vector<std::string> Archives() const override {
    std::vector<std::string> paths;
    for (const auto& archive : source_.archives) paths.push_back(archive->name());
    return paths;
  }

  std::optional<int64_t> FileBytes(int64_t sample) const override {
    if (source_.archives.empty()) return SizeOnDisk(PathOf(sample));
    return source_.members.bytes[static_cast<size_t>(first_ + sample)];
  }

  void Read(int64_t sample, EncodedSample& into) const override {
    into.height = into.width = into.channels = 0;
    const auto member = static_cast<size_t>(first_ + sample);
    if (source_.archives.empty()) {
      ReadWhole(PathOf(sample), into.bytes);
      return;
    }
    const uint32_t bytes = source_.members.bytes[member];
    into.bytes.resize(bytes);
    source_.archives[source_.members.archive[member]]->ReadAt(source_.members.offset[member],
                                                              into.bytes.data(), bytes);
  }

  void WillRead(int64_t sample) const override {
    const auto member = static_cast<size_t>(first_ + sample);
    if (source_.archives.empty()) return;  // a file of its own is read ahead from its start
    source_.archives[source_.members.archive[member]]->WillReadAt(source_.members.offset[member],
                                                                  source_.members.bytes[member]);
  }

  std::string Describe() const override {
    std::string text = fmt::format("{}: {} images", source_.description, FormatCount(size_));
    if (labelled_) {
      text += fmt::format(" in {} classes",
                          FormatCount(static_cast<int64_t>(source_.layout.classes.size())));
    }
    return text;
  }

  const LeftOut& left_out() const override { return source_.left_out.all; }

 private:
  size_t FolderOfSample(int64_t sample) const {
    CONVOY_CHECK(sample >= 0 && sample < size_, "sample {} of {}", sample, size_);
    return source_.members.FolderIndex(first_ + sample);
  }
  std::string PathOf(int64_t sample) const {
    const std::string& folder =
        source_.files_in ? *source_.files_in : source_.members.folders[FolderOfSample(sample)];
    fs::path path(source_.root);
    if (!folder.empty()) path /= folder;
    return (path / source_.members.Name(first_ + sample)).string();
  }

  MemberSource source_;
  bool labelled_;
  int64_t first_ = 0, size_ = 0;
};

class ImageFiles final : public Dataset {
 public:
  ImageFiles(std::vector<std::string> paths, LeftOut left_out)
      : paths_(std::move(paths)), left_out_(std::move(left_out)) {}

  int64_t size() const override { return static_cast<int64_t>(paths_.size()); }
  const std::vector<std::string>& classes() const override { return no_classes_; }
  int32_t Label(int64_t) const override { return -1; }
  std::string Name(int64_t sample) const override { return paths_.at(static_cast<size_t>(sample)); }
  std::string Location(int64_t sample) const override { return Name(sample); }
  std::optional<int64_t> FileBytes(int64_t sample) const override {
    return SizeOnDisk(Name(sample));
  }
  void Read(int64_t sample, EncodedSample& into) const override {
    into.height = into.width = into.channels = 0;
    ReadWhole(Name(sample), into.bytes);
  }
  std::string Describe() const override {
    return fmt::format("{} image files", FormatCount(size()));
  }

  const LeftOut& left_out() const override { return left_out_; }

 private:
  std::vector<std::string> paths_, no_classes_;
  LeftOut left_out_;
};

}  // namespace

std::unique_ptr<Dataset> MakeMemberDataset(MemberSource source) {
  return std::make_unique<MemberDataset>(std::move(source), true);
}

std::unique_ptr<Dataset> MakeUnlabelledDataset(MemberSource source) {
  return std::make_unique<MemberDataset>(std::move(source), false);
}

std::shared_ptr<const Dataset> OpenImages(const std::vector<std::string>& paths) {
  std::vector<std::string> files;
  LeftOut left_out;
  for (const std::string& path : paths) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) {
      throw Error(ExitCode::kData, fmt::format("no such file or folder: {}", path),
                  "give image files, or folders of them");
    }
    if (!fs::is_directory(status)) {
      RequireRegularFile(path, ExitCode::kData);
      files.push_back(path);
      continue;
    }
    const FolderContents contents = ReadFolders(path);
    const MemberTable& members = contents.members;
    if (members.size() == 0) {
      const std::string found = contents.left_out.Listing();
      throw Error(ExitCode::kData,
                  fmt::format("no image below {}{}", path, found.empty() ? "" : ", but " + found),
                  "images are named .jpeg, .jpg or .png");
    }
    left_out.Add(contents.left_out);
    for (int64_t i = 0; i < members.size(); ++i) {
      const std::string& folder = members.folders[members.FolderIndex(i)];
      fs::path file(path);
      if (!folder.empty()) file /= folder;
      files.push_back((file / members.Name(i)).string());
    }
  }
  if (files.empty()) throw Error(ExitCode::kData, "no image was given", "give image files");
  return std::make_unique<ImageFiles>(std::move(files), std::move(left_out));
}

}  // namespace convoy
