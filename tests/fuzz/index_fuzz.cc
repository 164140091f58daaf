// What the harness puts around the rest (0: magic, version, the stamps of the archives, checksum;
// 1: magic, version, checksum; 2: nothing), then an index of an archive of two images.
#include "dataloader/archives/index.h"
#include "dataloader/archives/tar_writer.h"
#include "tests/fuzz/support.h"

namespace {

using namespace convoy;

constexpr std::string_view kMagic = "CONVOYIX";
constexpr uint32_t kVersion = 2;

// "a/0.jpg" of 5 bytes at byte 512 and "b/1.jpg" of 4 at 1536, as make_corpus.py has them.
std::string Archive() {
  std::string tar;
  for (const auto& [name, content] :
       {std::pair{"a/0.jpg", "first"}, std::pair{"b/1.jpg", "next"}}) {
    const auto bytes = static_cast<int64_t>(std::string_view(content).size());
    tar += TarHeader(name, bytes) + content + TarPadding(bytes);
  }
  return tar + TarEnd();
}

template <typename T>
void Append(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

std::string Stamps(const std::string& archive) {
  const FileStamp stamp = StampOf(archive);
  std::string stamps;
  Append<uint64_t>(stamps, 1);
  Append<uint64_t>(stamps, stamp.name.size());
  stamps += stamp.name;
  Append(stamps, stamp.bytes);
  Append(stamps, stamp.modified_ns);
  return stamps;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string archive = fuzz::WriteFile("a.tar", Archive());
  static const std::string stamps = Stamps(archive);
  std::vector<std::unique_ptr<FileBytes>> archives;
  archives.push_back(std::make_unique<FileBytes>(archive));

  fuzz::Input input(data, size);
  const uint8_t around = input.Byte();
  const std::string rest(input.Rest());
  const std::string path = fuzz::WriteFile(
      "a.tar.convoy-index", around == 2   ? rest
                            : around == 1 ? fuzz::Checked(kMagic, kVersion, rest)
                                          : fuzz::Checked(kMagic, kVersion, stamps + rest));
  const std::optional<ArchiveContents> contents = LoadIndex(path, archives, fuzz::QuietLog());
  if (!contents) return 0;
  const MemberTable& members = contents->members;
  std::vector<uint8_t> bytes;
  for (int64_t i = 0; i < members.size(); ++i) {
    const auto place = static_cast<size_t>(i);
    fuzz::Require(members.FolderIndex(i) < members.folders.size(), "a member lies in no folder");
    fuzz::Require(members.Name(i).size() <= members.names.size(), "a name is none");
    bytes.resize(members.bytes[place]);
    archives[members.archive[place]]->ReadAt(members.offset[place], bytes.data(),
                                             members.bytes[place]);
  }
  return 0;
}
