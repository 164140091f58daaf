#include "dataloader/archives/inner_tar.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "dataloader/archives/names.h"

namespace convoy {

bool IsTar(const ByteSource& archive, const TarMember& member) {
  if (member.bytes < 2 * kTarBlock) return false;
  uint8_t block[kTarBlock];
  archive.ReadAt(member.offset, block, kTarBlock);
  return IsTarHeader(block);
}

bool IsTarOfTars(const ByteSource& archive) {
  constexpr int kMostHeaders = 10000;
  try {
    TarReader reader(archive);
    TarMember member;
    for (int i = 0; i < kMostHeaders && reader.Next(member); ++i) {
      if (member.is_folder || IsIgnoredPath(member.name)) continue;
      if (IsImageName(member.name) || IsLabelName(member.name)) return false;
      if (IsTar(archive, member)) return true;
    }
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): whoever reads all of it says so
  }
  return false;
}

bool IsLabelName(std::string_view name) { return ExtensionOf(name) == "cls"; }

bool IsPackedName(std::string_view name) {
  constexpr std::array<std::string_view, 8> kPacked = {"gz", "tgz", "zip", "bz2",
                                                       "xz", "zst", "7z",  "rar"};
  return std::find(kPacked.begin(), kPacked.end(), ExtensionOf(name)) != kPacked.end();
}

}  // namespace convoy
