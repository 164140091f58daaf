#include "dataloader/archives/archive.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "core/host/clock.h"
#include "core/text.h"
#include "dataloader/archives/inner_tar.h"
#include "dataloader/archives/names.h"
#include "dataloader/archives/tar.h"

namespace convoy {
namespace {

constexpr int64_t kMostClasses = 100000;

// Says every few seconds how far the walk is.
class ProgressLines {
 public:
  ProgressLines(Log& log, int64_t total_bytes) : log_(log), total_(total_bytes) {}

  void At(int64_t bytes, int64_t images) {
    if ((++calls_ & 0xFFF) != 0) return;
    const Clock::time_point now = Clock::now();
    if (now - last_ < std::chrono::seconds(5)) return;
    last_ = now;
    const double per_byte = SecondsSince(start_) / static_cast<double>(std::max<int64_t>(bytes, 1));
    log_.Info("indexing: {:.0f} %, {} images, about {} left",
              100 * static_cast<double>(bytes) / static_cast<double>(std::max<int64_t>(total_, 1)),
              FormatCount(images), FormatDuration(per_byte * static_cast<double>(total_ - bytes)));
  }

 private:
  Log& log_;
  int64_t total_, calls_ = 0;
  Clock::time_point start_ = Clock::now(), last_ = start_;
};

// Returns WebDataset's key: the name up to the first point after the last slash.
std::string_view KeyOf(std::string_view name) {
  return name.substr(0, name.find('.', name.size() - BaseOf(name).size()));
}

class ArchiveWalk {
 public:
  ArchiveWalk(const Archives& archives, Log& log)
      : archives_(archives), progress_(log, TotalBytes(archives)) {}

  ArchiveContents Run();

 private:
  // The members of one key that were seen so far: an image, its label, or both.
  struct Pending {
    std::string key, name;
    int64_t header = 0, offset = 0, bytes = 0;
    bool has_image = false;
    std::optional<int64_t> label;
    std::string other;  // a file of the same key that is no image; for messages
  };

  static int64_t TotalBytes(const Archives& archives) {
    int64_t total = 0;
    for (const auto& archive : archives) total += archive->size();
    return total;
  }
  const FileBytes& archive() const { return *archives_[static_cast<size_t>(current_)]; }
  [[noreturn]] void Refuse(int64_t header, const std::string& problem, const char* hint) const {
    throw Error(ExitCode::kData,
                fmt::format("{}, header at byte {}: {}", archive().name(), header, problem), hint);
  }

  void Visit(const TarMember& member);
  void VisitTar(const TarMember& outer);
  int64_t ReadLabel(const TarMember& member) const;
  void FlushPending();
  // Throws (kData) if tars of tars are several data sets, or hold tars that cannot be read in
  // place.
  void CheckTars() const;
  std::string StemOfCurrent() const;

  const Archives& archives_;
  ProgressLines progress_;
  int64_t current_ = 0, bytes_before_ = 0;  // the archive that is walked; bytes of those before it
  MemberTableBuilder builder_;
  Pending pending_;
  std::vector<std::string> folders_;  // as the archives name them
  int64_t images_ = 0, labelled_ = 0, tars_ = 0, largest_label_ = -1;
  int64_t images_before_ = 0;  // members of the archives before this one
  LeftOut left_out_;
  std::string unlabelled_example_;
};

int64_t ArchiveWalk::ReadLabel(const TarMember& member) const {
  std::string text(static_cast<size_t>(std::min<int64_t>(member.bytes, 32)), '\0');
  archive().ReadAt(member.offset, text.data(), static_cast<int64_t>(text.size()));
  const std::optional<int64_t> label = ParseInteger(Trim(text));
  if (!label || *label < 0 || *label >= kMostClasses) {
    Refuse(member.header,
           fmt::format("{} holds \"{}\", a label of 0 to {} expected", Printable(member.name),
                       Printable(Trim(text)), kMostClasses - 1),
           "a .cls member holds the number of the class as text");
  }
  return *label;
}

// Returns a folder name of digits for a label. Run() gives all of them the same length at the end.
std::string LabelFolder(int64_t label) { return fmt::format("{:08}", label); }

std::string ArchiveWalk::StemOfCurrent() const {
  const std::string_view base = BaseOf(archive().name());
  return std::string(base.substr(0, base.rfind('.')));
}

void ArchiveWalk::FlushPending() {
  if (pending_.has_image && pending_.label) {
    ++labelled_;
    largest_label_ = std::max(largest_label_, *pending_.label);
    builder_.Add(builder_.Folder(LabelFolder(*pending_.label)), pending_.name, current_,
                 pending_.offset, pending_.bytes);
  } else if (pending_.has_image) {
    if (images_++ == 0) unlabelled_example_ = archive().name() + ": " + Printable(pending_.name);
    std::string folder(FolderOf(pending_.name));
    // If several tars hold images at their top, each is a class.
    if (folder.empty() && archives_.size() > 1) folder = StemOfCurrent();
    builder_.Add(builder_.Folder(folder), BaseOf(pending_.name), current_, pending_.offset,
                 pending_.bytes);
  } else if (pending_.label) {
    Refuse(pending_.header,
           fmt::format("{}: a label without an image{}", Printable(pending_.name),
                       pending_.other.empty() ? "" : ", beside " + Printable(pending_.other)),
           "an image (JPEG or PNG) and its .cls follow each other");
  }
  pending_ = {};
}

void ArchiveWalk::VisitTar(const TarMember& outer) {
  ++tars_;
  std::string path = outer.name;
  if (ExtensionOf(path) == "tar") path.resize(path.size() - 4);
  const std::string own_folder(BaseOf(path));
  const uint32_t folder = builder_.Folder(path);
  TarReader reader(archive(), outer.offset, outer.offset + outer.bytes,
                   archive().name() + ", " + Printable(outer.name));
  TarMember member;
  while (reader.Next(member)) {
    progress_.At(bytes_before_ + member.offset, builder_.size());
    if (member.is_folder || IsIgnoredPath(member.name)) continue;
    if (!IsImageName(member.name)) {
      left_out_.AddFile(path + "/" + std::string(BaseOf(member.name)));
      continue;
    }
    const std::string_view inner_folder = FolderOf(member.name);
    if (!inner_folder.empty() && inner_folder != own_folder) {
      Refuse(member.header,
             fmt::format("{} inside of {}: the tar of a class holds its images and no folders",
                         Printable(member.name), Printable(outer.name)),
             "expected the layout of ILSVRC2012_img_train.tar");
    }
    builder_.Add(folder, BaseOf(member.name), current_, member.offset, member.bytes);
  }
}

void ArchiveWalk::Visit(const TarMember& member) {
  progress_.At(bytes_before_ + member.offset, builder_.size());
  if (IsIgnoredPath(member.name)) return;
  if (member.is_folder) {
    folders_.push_back(member.name);
    return;
  }
  const bool is_image = IsImageName(member.name), is_label = IsLabelName(member.name);
  const std::string_view key = KeyOf(member.name);
  if (!is_image && !is_label) {
    if (IsTar(archive(), member)) return VisitTar(member);
    if (ExtensionOf(member.name) == "tar") {
      Refuse(member.header,
             fmt::format("{} of {} bytes is no tar", Printable(member.name), member.bytes),
             "it may be what is left of a download: pack the archive again");
    }
    left_out_.AddFile(member.name);
    if (key == pending_.key) pending_.other = member.name;
    return;
  }
  if (key != pending_.key || (is_image && pending_.has_image) || (is_label && pending_.label)) {
    FlushPending();
    pending_.key = key;
  }
  if (is_label) {
    pending_.label = ReadLabel(member);
    if (!pending_.has_image) {
      pending_.header = member.header;
      pending_.name = member.name;
    }
    return;
  }
  pending_.header = member.header;
  pending_.name = member.name;
  pending_.offset = member.offset;
  pending_.bytes = member.bytes;
  pending_.has_image = true;
}

void ArchiveWalk::CheckTars() const {
  if (archives_.size() > 1) {
    throw Error(ExitCode::kData,
                fmt::format("{} is one of {} archives, of which some are tars of tars",
                            archives_.front()->name(), archives_.size()),
                "each is a data set of its own: give the archive itself");
  }
  for (const auto& [kind, entry] : left_out_.kinds()) {
    if (!IsPackedName(kind)) continue;
    throw Error(
        ExitCode::kData,
        fmt::format("{}: found {} tars, and {} {} such as {}, which cannot be read in place",
                    archives_.front()->name(), tars_, entry.count, kind, Printable(entry.first)),
        "unpack it (gunzip), and pack the archive again");
  }
}

ArchiveContents ArchiveWalk::Run() {
  for (; current_ < std::ssize(archives_); ++current_) {
    TarReader reader(archive());
    TarMember member;
    while (reader.Next(member)) Visit(member);
    FlushPending();
    if (archives_.size() > 1 && builder_.size() == images_before_) {
      throw Error(ExitCode::kData,
                  fmt::format("{}: a tar without images, among {} tars of one data set",
                              archive().name(), archives_.size()),
                  "fill it, or remove it if it belongs to no class");
    }
    images_before_ = builder_.size();
    bytes_before_ += archive().size();
  }
  std::vector<std::string> names;
  for (const auto& archive : archives_) names.push_back(archive->name());
  const int kinds = (images_ > 0) + (labelled_ > 0) + (tars_ > 0);
  if (kinds > 1) {
    throw Error(ExitCode::kData,
                fmt::format("{}: found {} images without a .cls, {} with one and {} tars, one of "
                            "the three expected{}",
                            names.front(), images_, labelled_, tars_,
                            images_ > 0 ? " (" + unlabelled_example_ + ")" : ""),
                "give an archive of class folders, of class tars, or of images with .cls members");
  }
  if (tars_ > 0) CheckTars();
  ArchiveContents contents;
  contents.left_out = left_out_;
  if (labelled_ > 0) {
    contents.kind = ArchiveKind::kShards;
    // Labels that no image has keep their number too.
    for (int64_t label = 0; label <= largest_label_; ++label) builder_.Folder(LabelFolder(label));
    const size_t digits = std::to_string(largest_label_).size();
    builder_.RenameFolders([&](const std::string& path) {
      return path.size() > digits && ParseInteger(path) ? path.substr(path.size() - digits) : path;
    });
  } else {
    // An empty folder is a class without images, which the user must be told of.
    for (const std::string& folder : folders_) builder_.Folder(folder);
    if (tars_ > 0 || (archives_.size() > 1 && images_ > 0)) contents.kind = ArchiveKind::kNested;
  }
  contents.members = builder_.Finish(names);
  return contents;
}

}  // namespace

ArchiveContents ReadArchives(const Archives& archives, Log& log) {
  return ArchiveWalk(archives, log).Run();
}

}  // namespace convoy
