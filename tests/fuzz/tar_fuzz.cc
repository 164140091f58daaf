// Whether headers keep their checksums (1: as they are, else they are made right), then a tar.
#include "dataloader/archives/tar.h"
#include "tests/fuzz/support.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace convoy;
  fuzz::Input input(data, size);
  const bool as_it_is = input.Byte() == 1;
  const std::string_view rest = input.Rest();
  const std::string tar = as_it_is ? std::string(rest) : fuzz::WithTarChecksums(rest);
  const MemoryBytes bytes("a.tar", {tar.begin(), tar.end()});
  fuzz::Parses([&] {
    TarReader reader(bytes);
    TarMember member;
    int64_t end_of_last = 0;
    while (reader.Next(member)) {
      fuzz::Require(member.header >= end_of_last && member.offset == member.header + kTarBlock,
                    "members overlap");
      fuzz::Require(member.bytes >= 0 && member.bytes <= bytes.size() - member.offset,
                    "a member leaves its archive");
      const std::string path = "/" + member.name + "/";
      fuzz::Require(path.find("/../") == std::string::npos && path.find("//") == std::string::npos,
                    "a name leaves its folder");
      end_of_last = member.offset + member.bytes;
    }
  });
  return 0;
}
