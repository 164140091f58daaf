#include "dataloader/archives/companion.h"

#include <algorithm>
#include <cstddef>
#include <string_view>

#include "core/hash.h"
#include "core/text.h"
#include "dataloader/archives/index.h"

namespace convoy {
namespace {

// Of the number of samples, and of the names and places of some of them.
uint64_t IdentityOf(const Dataset& dataset) {
  constexpr int64_t kSampled = 1024;
  Hasher hasher;
  const int64_t size = dataset.size(), count = std::min(size, kSampled);
  hasher.Add(&size, sizeof(size));
  for (int64_t k = 0; k < count; ++k) {
    const int64_t sample = k * size / count;
    const std::string text =
        fmt::format("{}\n{}\n", dataset.Name(sample), dataset.Location(sample));
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

}  // namespace convoy
