// CIFAR-10 and CIFAR-100 in their binary form: records of one label (CIFAR-100: a coarse and a fine
// one) and 32 x 32 pixels, channel by channel.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "core/host/files.h"
#include "core/text.h"
#include "dataloader/sources/plain.h"
#include "dataloader/sources/sources.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSide = 32, kPlane = kSide * kSide, kPixels = 3 * kPlane;

struct CifarForm {
  const char* name;
  int classes;
  int64_t label_bytes;      // the last of them is the label
  const char* class_names;  // a text beside the data, one name a line
};
constexpr CifarForm kCifar10{"CIFAR-10", 10, 1, "batches.meta.txt"};
constexpr CifarForm kCifar100{"CIFAR-100", 100, 2, "fine_label_names.txt"};

// Returns the paths of those `files` whose names are `start`, perhaps a number, and ".bin".
std::vector<std::string> PathsOf(const std::string& folder, const std::vector<std::string>& files,
                                 std::string_view start) {
  constexpr std::string_view kEnd = ".bin";
  std::vector<std::string> paths;
  for (const std::string& name : files) {
    if (!name.starts_with(start) || !name.ends_with(kEnd)) continue;
    const std::string number = name.substr(start.size(), name.size() - start.size() - kEnd.size());
    const bool fits =
        std::all_of(number.begin(), number.end(), [](unsigned char c) { return std::isdigit(c); });
    if (fits) paths.push_back((fs::path(folder) / name).string());
  }
  return paths;
}

// Returns names in label order, if the text beside the data has them and labels keep that order
// when they are sorted by name.
std::vector<std::string> ClassNames(const std::string& folder, const CifarForm& form) {
  std::vector<std::string> names;
  const fs::path path = fs::path(folder) / form.class_names;
  if (fs::is_regular_file(path)) {
    for (const std::string& line : Split(ReadText(path.string(), ExitCode::kData), '\n')) {
      const std::string_view name = Trim(line);
      if (!name.empty() && name.find('/') == std::string_view::npos) names.emplace_back(name);
    }
  }
  const bool usable =
      static_cast<int>(names.size()) == form.classes &&
      std::adjacent_find(names.begin(), names.end(), std::greater_equal<>()) == names.end();
  return usable ? names : NumberNames(form.classes);
}

// Appends the records of one file.
void AppendRecords(const std::string& path, const CifarForm& form, PlainSource& source) {
  const File file = File::OpenForReading(path, ExitCode::kData);
  const int64_t record = form.label_bytes + kPixels;
  if (file.size() == 0 || file.size() % record != 0) {
    throw Error(ExitCode::kData,
                fmt::format("{}: {} bytes, a multiple of the {} bytes of a {} record expected",
                            path, file.size(), record, form.name),
                "the file is incomplete: download it again");
  }
  std::vector<uint8_t> bytes(static_cast<size_t>(file.size()));
  file.ReadAt(0, bytes.data(), file.size());
  for (int64_t at = 0; at < file.size(); at += record) {
    const uint8_t* label = bytes.data() + at + form.label_bytes - 1;
    if (*label >= form.classes) {
      throw Error(ExitCode::kData,
                  fmt::format("{} at byte {}: label {}, at most {} expected", path,
                              at + form.label_bytes - 1, *label, form.classes - 1),
                  "the file is damaged: download it again");
    }
    source.labels.push_back(*label);
    const uint8_t* planes = label + 1;
    for (int64_t pixel = 0; pixel < kPlane; ++pixel) {
      for (int64_t c = 0; c < 3; ++c) source.pixels.push_back(planes[c * kPlane + pixel]);
    }
  }
}

}  // namespace

std::unique_ptr<Dataset> OpenCifar(const std::string& folder, const std::vector<std::string>& files,
                                   const std::string& split) {
  const std::vector<std::string> ten = PathsOf(folder, files, "data_batch_");
  const std::vector<std::string> ten_test = PathsOf(folder, files, "test_batch");
  const std::vector<std::string> hundred = PathsOf(folder, files, "train");
  const std::vector<std::string> hundred_test = PathsOf(folder, files, "test");
  const bool is_ten = !ten.empty() || !ten_test.empty();
  if (!is_ten && hundred.empty() && hundred_test.empty()) return nullptr;
  if (split != "train" && split != "test") {
    throw Error(ExitCode::kData,
                fmt::format("{} holds CIFAR files of the splits train and test, {}", folder,
                            split.empty() ? "and none was named" : "not " + split),
                fmt::format("name one: {}:train or {}:test", folder, folder));
  }
  const CifarForm& form = is_ten ? kCifar10 : kCifar100;
  const std::vector<std::string>& paths =
      split == "train" ? (is_ten ? ten : hundred) : (is_ten ? ten_test : hundred_test);
  if (paths.empty()) {
    throw Error(ExitCode::kData, fmt::format("{} holds no {} file of {}", folder, split, form.name),
                "expected data_batch_*.bin and test_batch.bin, or train.bin and test.bin");
  }
  PlainSource source;
  source.description = fmt::format("{} {}:{}", form.name, folder, split);
  source.height = source.width = kSide;
  source.channels = 3;
  source.classes = ClassNames(folder, form);
  source.files = paths;
  std::vector<std::pair<int64_t, std::string>> first_of_file;
  for (const std::string& path : paths) {
    first_of_file.emplace_back(static_cast<int64_t>(source.labels.size()), path);
    AppendRecords(path, form, source);
  }
  const int64_t record = form.label_bytes + kPixels;
  source.location = [first_of_file, record](int64_t image) {
    auto file = first_of_file.rbegin();
    while (file->first > image) ++file;
    return fmt::format("{} at byte {}", file->second, (image - file->first) * record);
  };
  return MakePlainDataset(std::move(source));
}

}  // namespace convoy
