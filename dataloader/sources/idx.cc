// IDX, the format of MNIST and its family: a magic word, the dimensions as 32-bit big-endian
// numbers, the elements.
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "dataloader/archives/bytes.h"
#include "dataloader/sources/plain.h"
#include "dataloader/sources/sources.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

constexpr uint8_t kUnsignedBytes = 0x08;
constexpr int kMostDimensions = 4;

struct IdxFile {
  std::vector<int64_t> sizes;
  std::vector<uint8_t> elements;
};

// Throws (kData) if the dimensions do not fit the file, before anything large is allocated.
IdxFile ReadIdx(const std::string& path, int fewest_dimensions, int most_dimensions) {
  const auto fail = [&path](const std::string& problem) {
    throw Error(ExitCode::kData, fmt::format("{}: {}", path, problem),
                "it is damaged or not an IDX file of 8-bit elements: download it again");
  };
  MaybeGzipFile file(path);
  std::array<uint8_t, 4> word{};
  if (file.Read(word.data(), 4) != 4) fail("shorter than the 4 bytes of a header");
  const int dimensions = word[3];
  if (word[0] != 0 || word[1] != 0 || word[2] != kUnsignedBytes || dimensions < fewest_dimensions ||
      dimensions > most_dimensions) {
    fail(fmt::format("magic word {:02x}{:02x}{:02x}{:02x}, expected 0000080{}", word[0], word[1],
                     word[2], word[3], fewest_dimensions));
  }
  IdxFile idx;
  int64_t count = 1;
  for (int i = 0; i < dimensions; ++i) {
    if (file.Read(word.data(), 4) != 4) fail("shorter than its header");
    const int64_t size =
        int64_t{word[0]} << 24 | int64_t{word[1]} << 16 | int64_t{word[2]} << 8 | int64_t{word[3]};
    idx.sizes.push_back(size);
    if (__builtin_mul_overflow(count, size, &count)) fail("its dimensions overflow");
  }
  if (count > file.LargestSize()) {
    fail(fmt::format("{} elements stated, at most {} can be in the file", count,
                     file.LargestSize()));
  }
  idx.elements.resize(static_cast<size_t>(count));
  const int64_t found = file.Read(idx.elements.data(), count);
  if (found != count) fail(fmt::format("{} elements stated, {} found", count, found));
  uint8_t more = 0;
  if (file.Read(&more, 1) != 0) fail(fmt::format("more than the {} elements stated", count));
  return idx;
}

// Returns whether a file begins like an IDX file of 8-bit elements.
bool HasIdxMagic(const std::string& path) {
  try {
    MaybeGzipFile file(path);
    std::array<uint8_t, 4> word{};
    return file.Read(word.data(), 4) == 4 && word[0] == 0 && word[1] == 0 &&
           word[2] == kUnsignedBytes && word[3] >= 1 && word[3] <= kMostDimensions;
  } catch (const Error&) {
    return false;
  }
}

// Returns whether a name is "train-images-idx3-ubyte" if `part` is "train-images"; also with a
// point in place of the second hyphen, with .gz, and with the name of the set in front
// ("emnist-letters-").
bool IsIdxName(std::string_view name, std::string_view part) {
  constexpr std::string_view kGzip = ".gz", kBytes = "-ubyte", kIdx = "idx";
  if (name.ends_with(kGzip)) name.remove_suffix(kGzip.size());
  if (!name.ends_with(kBytes)) return false;
  name.remove_suffix(kBytes.size());
  if (name.empty() || name.back() < '1' || name.back() > '0' + kMostDimensions) return false;
  name.remove_suffix(1);
  if (!name.ends_with(kIdx)) return false;
  name.remove_suffix(kIdx.size());
  if (name.empty() || (name.back() != '-' && name.back() != '.')) return false;
  name.remove_suffix(1);
  if (!name.ends_with(part)) return false;
  name.remove_suffix(part.size());
  return name.empty() || name.back() == '-' || name.back() == '_';
}

// Returns whether a name is "train-images", or that with .gz. The content must then show that the
// file is IDX.
bool IsShortIdxName(std::string_view name, std::string_view part) {
  return name == part || name == std::string(part) + ".gz";
}

// Returns the one of `files` in `folder` that is one of `parts` ("t10k-images", "test-images");
// empty if there is none.
std::string FindFile(const std::string& folder, const std::vector<std::string>& files,
                     const std::vector<std::string>& parts) {
  std::vector<std::string> found;
  for (const std::string& name : files) {
    const std::string path = (fs::path(folder) / name).string();
    const bool matches = std::any_of(parts.begin(), parts.end(), [&](const std::string& part) {
      return IsIdxName(name, part) || (IsShortIdxName(name, part) && HasIdxMagic(path));
    });
    if (matches) found.push_back(path);  // the plain one before its .gz
  }
  if (found.empty()) return {};
  for (const std::string& other : found) {
    if (other == found.front() || other == found.front() + ".gz") continue;
    throw Error(ExitCode::kData,
                fmt::format("{} and {}: two data sets in one folder", found.front(), other),
                "keep each data set in a folder of its own");
  }
  return found.front();
}

// Throws (kData) for a label that is none of the set's classes, such as 255 for "unknown".
//
// A file does not say how many classes it has. But sets of this family number them without gaps,
// from 0 or 1 on; so labels that no image has, below one that some have, are suspicious. They may
// be classes that a small file happens to lack. Hence a gap is an error if that has a chance below
// one in a million (each label being as likely as another), and either the images above the gap are
// one in a thousand or the gap is half of all labels.
void CheckLabels(const std::vector<uint8_t>& labels, const std::string& path) {
  constexpr double kSmallestChance = 1e-6;
  constexpr int64_t kHeaderBytes = 8;
  if (labels.empty()) return;
  std::array<int64_t, 256> images_of{};
  for (const uint8_t label : labels) ++images_of[label];
  const int largest = *std::max_element(labels.begin(), labels.end());
  const auto count = static_cast<int64_t>(labels.size());
  int64_t above = count - images_of[0];
  int last = 0;
  for (int label = 1; label <= largest; ++label) {
    if (images_of[static_cast<size_t>(label)] == 0) continue;
    const int missing = label - last - 1;
    const double chance =
        std::pow(1 - static_cast<double>(missing) / (largest + 1), static_cast<double>(count));
    if (missing > 0 && chance < kSmallestChance &&
        (above <= count / 1000 || above == 1 || 2 * missing > largest)) {
      const auto image = std::find_if(labels.begin(), labels.end(),
                                      [label](uint8_t found) { return found >= label; }) -
                         labels.begin();
      throw Error(ExitCode::kData,
                  fmt::format("{}: image {} has label {} (at byte {}), but no image has a label "
                              "from {} to {}",
                              path, image, labels[static_cast<size_t>(image)], kHeaderBytes + image,
                              last + 1, label - 1),
                  "labels are expected without gaps: repair this one, or download the file again");
    }
    above -= images_of[static_cast<size_t>(label)];
    last = label;
  }
}

}  // namespace

std::unique_ptr<Dataset> OpenIdx(const std::string& folder, const std::vector<std::string>& files,
                                 const std::string& split) {
  const std::string train = FindFile(folder, files, {"train-images"});
  const std::string test = FindFile(folder, files, {"t10k-images", "test-images"});
  if (train.empty() && test.empty()) return nullptr;
  if (split != "train" && split != "test") {
    throw Error(ExitCode::kData,
                fmt::format("{} holds IDX files of the splits train and test, {}", folder,
                            split.empty() ? "and none was named" : "not " + split),
                fmt::format("name one: {}:train or {}:test", folder, folder));
  }
  const std::string images_path = split == "train" ? train : test;
  const std::string labels_path = split == "train"
                                      ? FindFile(folder, files, {"train-labels"})
                                      : FindFile(folder, files, {"t10k-labels", "test-labels"});
  if (images_path.empty() || labels_path.empty()) {
    throw Error(ExitCode::kData,
                fmt::format("{} holds no {}-{} file", folder, split == "train" ? "train" : "t10k",
                            images_path.empty() ? "images" : "labels"),
                "images and labels belong together: download both");
  }
  IdxFile images = ReadIdx(images_path, 3, kMostDimensions);
  const IdxFile labels = ReadIdx(labels_path, 1, 1);
  if (images.sizes[0] != labels.sizes[0]) {
    throw Error(ExitCode::kData,
                fmt::format("{} images in {}, but {} labels in {}", images.sizes[0], images_path,
                            labels.sizes[0], labels_path),
                "the two files are of different data sets");
  }
  CheckLabels(labels.elements, labels_path);
  constexpr int64_t kLongestSide = 1 << 14;
  const int64_t channels = images.sizes.size() == 4 ? images.sizes[3] : 1;
  if (images.sizes[1] < 1 || images.sizes[1] > kLongestSide || images.sizes[2] < 1 ||
      images.sizes[2] > kLongestSide || (channels != 1 && channels != 3)) {
    throw Error(ExitCode::kData,
                fmt::format("{}: images of {} x {} pixels and {} channels", images_path,
                            images.sizes[1], images.sizes[2], channels));
  }
  PlainSource source;
  source.description = fmt::format("IDX {}:{}", folder, split);
  source.height = static_cast<int>(images.sizes[1]);
  source.width = static_cast<int>(images.sizes[2]);
  source.channels = static_cast<int>(channels);
  source.pixels = std::move(images.elements);
  source.labels.assign(labels.elements.begin(), labels.elements.end());
  const auto largest = std::max_element(source.labels.begin(), source.labels.end());
  source.classes = NumberNames(largest == source.labels.end() ? 0 : *largest + 1);
  const int64_t header = 4 + 4 * static_cast<int64_t>(images.sizes.size());
  const int64_t image_bytes = images.sizes[1] * images.sizes[2] * channels;
  source.files = {images_path, labels_path};
  source.location = [=](int64_t image) {
    return fmt::format("{} at byte {}", images_path, header + image * image_bytes);
  };
  return MakePlainDataset(std::move(source));
}

}  // namespace convoy
