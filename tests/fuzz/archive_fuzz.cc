// Flags (1: headers keep their checksums, else they are made right; 2: two archives), the blocks of
// the first archive if there are two, then the archives.
#include "dataloader/archives/archive.h"
#include "dataloader/archives/tar.h"
#include "tests/fuzz/support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace convoy;
  fuzz::Input input(data, size);
  const uint8_t flags = input.Byte(), blocks = input.Byte();
  const auto repaired = [flags](std::string_view tar) {
    return (flags & 1) != 0 ? std::string(tar) : fuzz::WithTarChecksums(tar);
  };
  std::vector<std::unique_ptr<FileBytes>> archives;
  const auto add = [&](const char* name, std::string_view tar) {
    archives.push_back(std::make_unique<FileBytes>(fuzz::WriteFile(name, repaired(tar))));
  };
  if ((flags & 2) != 0) add("n01.tar", input.Take(size_t{blocks} * kTarBlock));
  add("n02.tar", input.Rest());

  ArchiveContents contents;
  if (!fuzz::Parses([&] { contents = ReadArchives(archives, fuzz::QuietLog()); })) return 0;
  const MemberTable& members = contents.members;
  fuzz::Require(members.IsConsistent(), "the members contradict each other");
  for (size_t i = 0; i < members.offset.size(); ++i) {
    fuzz::Require(members.archive[i] < archives.size() &&
                      members.offset[i] <= archives[members.archive[i]]->size() - members.bytes[i],
                  "a member leaves its archive");
    fuzz::Require(members.FolderIndex(static_cast<int64_t>(i)) < members.folders.size(),
                  "a member lies in no folder");
  }
  return 0;
}
