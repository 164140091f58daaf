#include "dataloader/sources/devkit.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/host/files.h"
#include "core/text.h"
#include "dataloader/archives/bytes.h"
#include "dataloader/archives/names.h"
#include "dataloader/archives/tar.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLargestDevkit = 256 << 20;  // bytes, unpacked
constexpr std::string_view kTruthSuffix = "_validation_ground_truth.txt";
constexpr const char* kHint =
    "give --devkit the folder or the .tar.gz of ILSVRC2012_devkit_t12, as it was downloaded";

[[noreturn]] void Fail(const std::string& message) { throw Error(ExitCode::kData, message, kHint); }

struct NamedBytes {
  std::string name;
  std::vector<uint8_t> bytes;

  std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

// The files of a devkit that are needed.
struct DevkitFiles {
  std::optional<NamedBytes> truth, mat, table;
  bool truth_is_given = false;  // the user named it: others beside it do not count

  static bool Wants(const std::string& name) {
    const std::string_view base = BaseOf(name);
    return base == "meta.mat" || base == "meta.txt" || base.ends_with(kTruthSuffix);
  }
  void Take(NamedBytes file) {
    const std::string_view base = BaseOf(file.name);
    if (truth_is_given && base.ends_with(kTruthSuffix)) return;
    std::optional<NamedBytes>& place = base == "meta.mat"   ? mat
                                       : base == "meta.txt" ? table
                                                            : truth;
    if (place) Fail(fmt::format("found both {} and {}", place->name, file.name));
    place = std::move(file);
  }
};

void TakeFolder(const std::string& folder, int deepest, DevkitFiles& files) {
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    const std::string path = entry->path().string();
    if (entry.depth() >= deepest || IsIgnoredName(BaseOf(path))) entry.disable_recursion_pending();
    if (IsIgnoredName(BaseOf(path))) continue;
    std::error_code unknown;
    if (!DevkitFiles::Wants(path) || !entry->is_regular_file(unknown)) continue;
    files.Take({path, ReadMaybeGzip(path, kLargestDevkit)});
  }
  if (error) Fail(fmt::format("cannot read the folder {}: {}", folder, error.message()));
}

void TakeTar(const ByteSource& source, DevkitFiles& files) {
  TarReader reader(source);
  TarMember member;
  while (reader.Next(member)) {
    if (member.is_folder || IsIgnoredPath(member.name)) continue;
    if (!DevkitFiles::Wants(member.name)) continue;
    NamedBytes file{source.name() + ", " + member.name, {}};
    file.bytes.resize(static_cast<size_t>(member.bytes));
    source.ReadAt(member.offset, file.bytes.data(), member.bytes);
    files.Take(std::move(file));
  }
}

// Calls `line(number, text)` for every line; the first has number 1. Skips empty lines at the end.
template <typename Function>
void ForEachLine(std::string_view text, const Function& line) {
  text = Trim(text);
  int64_t number = 0;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    line(++number, Trim(text.substr(0, end)));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
}

bool IsWnid(std::string_view text) {
  return text.size() == 9 && text[0] == 'n' &&
         std::all_of(text.begin() + 1, text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Reads lines "ID WNID WORDS".
std::vector<Synset> ReadTable(const NamedBytes& file) {
  std::vector<Synset> synsets;
  ForEachLine(file.text(), [&](int64_t number, std::string_view line) {
    const size_t id_end = std::min(line.find_first_of(" \t"), line.size());
    const std::string_view rest = Trim(line.substr(id_end));
    const size_t wnid_end = std::min(rest.find_first_of(" \t"), rest.size());
    const std::string_view wnid = rest.substr(0, wnid_end);
    const std::optional<int64_t> id = ParseInteger(line.substr(0, id_end));
    if (!id || wnid.empty()) {
      Fail(fmt::format("{}, line {}: \"{}\", a number and a wnid expected", file.name, number,
                       Printable(line)));
    }
    synsets.push_back({*id, std::string(wnid), std::string(Trim(rest.substr(wnid_end)))});
  });
  return synsets;
}

// Returns the wnid of every image, from class numbers and their synsets.
std::vector<std::string> ReadNumberedTruth(const NamedBytes& truth,
                                           const std::vector<Synset>& synsets) {
  std::map<int64_t, std::string> wnid_of_id;
  std::set<std::string> seen;
  for (const Synset& synset : synsets) {
    if (!wnid_of_id.emplace(synset.id, synset.wnid).second || !seen.insert(synset.wnid).second) {
      Fail(fmt::format("the devkit names class {} ({}) twice", synset.id, Printable(synset.wnid)));
    }
  }
  std::vector<std::string> wnids;
  ForEachLine(truth.text(), [&](int64_t number, std::string_view line) {
    const std::optional<int64_t> id = ParseInteger(line);
    const auto found = id ? wnid_of_id.find(*id) : wnid_of_id.end();
    if (found == wnid_of_id.end()) {
      Fail(fmt::format("{}, line {}: \"{}\", one of the {} class numbers expected", truth.name,
                       number, Printable(line), wnid_of_id.size()));
    }
    wnids.push_back(found->second);
  });
  return wnids;
}

std::vector<std::string> ReadWnidLines(const NamedBytes& file) {
  std::vector<std::string> wnids;
  ForEachLine(file.text(), [&](int64_t number, std::string_view line) {
    if (!IsWnid(line)) {
      Fail(fmt::format("{}, line {}: \"{}\", a wnid such as n01440764 expected", file.name, number,
                       Printable(line)));
    }
    wnids.emplace_back(line);
  });
  return wnids;
}

ValidationTruth ToLabels(const std::vector<std::string>& wnid_of_image,
                         std::vector<std::string> wnids) {
  ValidationTruth truth;
  std::sort(wnids.begin(), wnids.end());
  wnids.erase(std::unique(wnids.begin(), wnids.end()), wnids.end());
  truth.wnids = std::move(wnids);
  truth.labels.reserve(wnid_of_image.size());
  for (const std::string& wnid : wnid_of_image) {
    const auto place = std::lower_bound(truth.wnids.begin(), truth.wnids.end(), wnid);
    truth.labels.push_back(static_cast<int32_t>(place - truth.wnids.begin()));
  }
  return truth;
}

}  // namespace

ValidationTruth ReadDevkit(const std::string& path) {
  if (!fs::exists(path)) Fail(fmt::format("no such devkit: {}", path));
  DevkitFiles files;
  if (fs::is_directory(path)) {
    TakeFolder(path, 4, files);
  } else {
    std::vector<uint8_t> bytes = ReadMaybeGzip(path, kLargestDevkit);
    uint8_t block[kTarBlock] = {};
    std::copy_n(bytes.begin(), std::min<size_t>(bytes.size(), kTarBlock), block);
    if (IsTarHeader(block)) {
      TakeTar(MemoryBytes(path, std::move(bytes)), files);
    } else {
      const NamedBytes text{path, std::move(bytes)};
      if (IsWnid(Trim(text.text().substr(0, text.text().find('\n'))))) {
        std::vector<std::string> wnids = ReadWnidLines(text);
        return ToLabels(wnids, wnids);
      }
      files.truth = text;
      files.truth_is_given = true;
      TakeFolder(fs::absolute(path).parent_path().string(), 0, files);
    }
  }
  if (!files.truth) Fail(fmt::format("{} holds no *{}", path, kTruthSuffix));
  if (!files.mat && !files.table) Fail(fmt::format("{} holds no meta.mat", path));
  const std::vector<Synset> synsets =
      files.table ? ReadTable(*files.table) : ReadSynsets(files.mat->bytes, files.mat->name);
  std::vector<std::string> wnids;
  wnids.reserve(synsets.size());
  for (const Synset& synset : synsets) wnids.push_back(synset.wnid);
  return ToLabels(ReadNumberedTruth(*files.truth, synsets), std::move(wnids));
}

}  // namespace convoy
