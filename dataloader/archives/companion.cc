#include "dataloader/archives/companion.h"

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/hash.h"
#include "core/text.h"
#include "dataloader/archives/archive_stamp.h"
#include "dataloader/archives/index.h"

namespace convoy {
namespace {

// Samples that are looked at.
constexpr int64_t kSampled = 1024;

// Of the number of samples, and of the names and places of some of them. Without folders, since a
// data set has several paths.
uint64_t IdentityOf(const Dataset& dataset) {
  Hasher hasher;
  const int64_t size = dataset.size(), count = std::min(size, kSampled);
  hasher.Add(&size, sizeof(size));
  for (int64_t k = 0; k < count; ++k) {
    const int64_t sample = k * size / count;
    const std::string location = dataset.Location(sample);
    const std::string text =
        fmt::format("{}\n{}\n", dataset.Name(sample), location.substr(location.rfind('/') + 1));
    hasher.Add(text.data(), text.size());
  }
  return hasher.Digest();
}

}  // namespace

std::string CompanionPath(const std::string& location, const std::string& index_folder,
                          const Dataset& dataset, const std::string& ending) {
  constexpr std::string_view kIndexSuffix = ".convoy-index";
  // The split is a part of the name.
  std::string path = IndexPath(location, index_folder);
  if (!path.ends_with(kIndexSuffix)) return {};
  path.resize(path.size() - kIndexSuffix.size());
  std::replace(path.begin() + static_cast<std::ptrdiff_t>(path.rfind('/') + 1), path.end(), ':',
               '-');
  return fmt::format("{}.{:016x}{}", path, IdentityOf(dataset), ending);
}

uint64_t StampOfImages(const Dataset& dataset) {
  const std::vector<std::string> archives = dataset.Archives();
  const int64_t size = dataset.size(), count = std::min(size, kSampled);
  if (archives.empty() && (size == 0 || !dataset.FileBytes(0))) return 0;
  Hasher hasher;
  const auto add = [&hasher](const std::string& path) {
    ArchiveStamp stamp{.name = {}, .bytes = -1, .modified_ns = 0};
    try {
      stamp = StampOf(path);
    } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the file is bad when it is read
    }
    hasher.Add(&stamp.bytes, sizeof(stamp.bytes));
    hasher.Add(&stamp.modified_ns, sizeof(stamp.modified_ns));
  };
  for (const std::string& path : archives) add(path);
  for (int64_t k = 0; k < count && archives.empty(); ++k) add(dataset.Location(k * size / count));
  return hasher.Digest();
}

}  // namespace convoy
