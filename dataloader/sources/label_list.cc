#include "dataloader/sources/label_list.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "dataloader/archives/bytes.h"
#include "dataloader/archives/names.h"
#include "dataloader/sources/csv.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kLargestList = 1 << 30;  // bytes
constexpr std::string_view kTinyImageNetList = "val_annotations.txt";
constexpr std::array<std::string_view, 19> kLabelHeaders = {
    "label",   "labels",     "class",     "classes",  "category",   "target",      "class_id",
    "classid", "class_name", "classname", "label_id", "label_name", "category_id", "wnid",
    "breed",   "species",    "diagnosis", "level",    "y"};

// Finds images by their names, with or without extension.
class ImageNames {
 public:
  explicit ImageNames(const MemberTable& members) {
    for (int64_t i = 0; i < members.size(); ++i) {
      const std::string_view name = members.Name(i);
      members_[std::string(name)] = i;
      // If there are a.jpg and a.png, "a" names none of them.
      const auto [entry, is_new] = stems_.emplace(name.substr(0, name.rfind('.')), i);
      if (!is_new) entry->second = -1;
    }
  }
  // Returns -1 if there is none.
  int64_t Find(std::string_view cell) const {
    const std::string name(BaseOf(cell));
    if (const auto found = members_.find(name); found != members_.end()) return found->second;
    const auto found = stems_.find(name);
    return found == stems_.end() ? -1 : found->second;
  }

 private:
  std::unordered_map<std::string, int64_t> members_, stems_;
};

// Returns the column with the most names of images; nothing if no column has any.
std::optional<size_t> NameColumn(const std::vector<CsvRow>& rows, const ImageNames& images) {
  constexpr size_t kMostRows = 10000;
  std::vector<int64_t> found;
  for (size_t i = 0; i < std::min(rows.size(), kMostRows); ++i) {
    found.resize(std::max(found.size(), rows[i].cells.size()));
    for (size_t column = 0; column < rows[i].cells.size(); ++column) {
      found[column] += images.Find(rows[i].cells[column]) >= 0;
    }
  }
  const auto most = std::max_element(found.begin(), found.end());
  if (most == found.end() || *most == 0) return std::nullopt;
  return static_cast<size_t>(most - found.begin());
}

std::optional<size_t> LabelColumn(const CsvRow& first, bool is_header, size_t name_column) {
  if (first.cells.size() == 2) return 1 - name_column;
  // Tiny ImageNet: name, wnid, and the corners of a box.
  if (!is_header)
    return first.cells.size() == 6 && name_column == 0 ? std::optional<size_t>(1) : std::nullopt;
  std::optional<size_t> column;
  for (size_t i = 0; i < first.cells.size(); ++i) {
    const bool fits = std::find(kLabelHeaders.begin(), kLabelHeaders.end(),
                                LowerCase(first.cells[i])) != kLabelHeaders.end();
    if (!fits || i == name_column) continue;
    if (column) return std::nullopt;
    column = i;
  }
  return column;
}

// How often something was wrong, and where it was wrong first.
struct Fault {
  int64_t count = 0;
  std::string first;

  void Add(const std::string& example) {
    if (count++ == 0) first = example;
  }
  void Tell(std::string_view one, std::string_view many, std::string& text) const {
    if (count == 0) return;
    text += fmt::format("{}{} {} (the first: {})", text.empty() ? "" : ", ", FormatCount(count),
                        count == 1 ? one : many, first);
  }
};

std::string PlaceOf(const LabelList::Line& line) {
  return fmt::format("line {}, {}", line.line, Printable(line.image));
}

// Returns whole numbers with zeros in front, all of one length.
void EvenOutNumbers(std::vector<LabelList::Line>& lines) {
  size_t digits = 0;
  for (const LabelList::Line& line : lines) {
    constexpr size_t kMostDigits = 18;
    const bool is_number = !line.label.empty() && line.label.size() <= kMostDigits &&
                           std::all_of(line.label.begin(), line.label.end(),
                                       [](unsigned char c) { return std::isdigit(c); });
    if (!is_number) return;
    digits = std::max(digits, line.label.size());
  }
  for (LabelList::Line& line : lines) {
    line.label.insert(0, digits - line.label.size(), '0');
  }
}

}  // namespace

bool IsLabelListName(const std::string& path) {
  const std::string extension = ExtensionOf(path);
  return extension == "csv" || extension == "tsv" || BaseOf(path) == kTinyImageNetList;
}

std::optional<LabelList> ReadLabelList(const std::string& path, const MemberTable& members) {
  const std::vector<uint8_t> bytes = ReadMaybeGzip(path, kLargestList);
  const std::vector<CsvRow> rows =
      ParseCsv({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
  const ImageNames images(members);
  const std::optional<size_t> name_column = NameColumn(rows, images);
  if (!name_column) return std::nullopt;
  const CsvRow& first = rows.front();
  const bool is_header =
      first.cells.size() <= *name_column || images.Find(first.cells[*name_column]) < 0;
  const std::optional<size_t> label_column = LabelColumn(first, is_header, *name_column);
  if (!label_column) return std::nullopt;
  LabelList list{path, {}};
  for (size_t i = is_header ? 1 : 0; i < rows.size(); ++i) {
    if (rows[i].cells.size() != first.cells.size()) {
      throw Error(ExitCode::kData,
                  fmt::format("{}, line {}: {} cells, {} expected as in the first line", path,
                              rows[i].line, rows[i].cells.size(), first.cells.size()),
                  "quote cells that hold a separator");
    }
    list.lines.push_back({rows[i].line, rows[i].cells[*name_column], rows[i].cells[*label_column]});
  }
  return list;
}

std::optional<LabelList> FindLabelList(const std::string& folder, const MemberTable& members) {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    const std::string path = entry->path().string();
    if (IsIgnoredName(BaseOf(path)) || !IsLabelListName(path)) continue;
    std::error_code unknown;
    if (entry->is_regular_file(unknown)) paths.push_back(path);
  }
  std::sort(paths.begin(), paths.end());
  std::vector<LabelList> lists;
  const auto read = [&](const std::string& path) {
    if (std::optional<LabelList> list = ReadLabelList(path, members)) {
      lists.push_back(*std::move(list));
    }
  };
  for (const std::string& path : paths) read(path);
  if (lists.size() > 1) {
    throw Error(ExitCode::kData,
                fmt::format("{} holds several lists of labels: {} and {}", folder, lists[0].path,
                            lists[1].path),
                fmt::format("name one: {}:{}", folder, BaseOf(lists[0].path)));
  }
  if (lists.empty()) {
    const fs::path absolute = fs::weakly_canonical(folder, error), above = absolute.parent_path();
    for (const std::string& name :
         {std::string("labels.csv"), std::string("train.csv"),
          absolute.filename().string() + ".csv", std::string(kTinyImageNetList)}) {
      std::error_code unknown;
      if (lists.empty() && fs::is_regular_file(above / name, unknown)) {
        read((above / name).string());
      }
    }
  }
  if (lists.empty()) return std::nullopt;
  return std::move(lists.front());
}

MemberTable ArrangeByLabels(const MemberTable& members, const LabelList& list,
                            const std::string& folder) {
  const ImageNames images(members);
  std::vector<LabelList::Line> lines = list.lines;
  EvenOutNumbers(lines);
  std::vector<const std::string*> labels(static_cast<size_t>(members.size()), nullptr);
  Fault no_line, no_image, twice, no_label;
  for (const LabelList::Line& line : lines) {
    const int64_t image = images.Find(line.image);
    const bool is_plain = !line.label.empty() && line.label != "." && line.label != ".." &&
                          line.label.find('/') == std::string::npos;
    if (image < 0) {
      no_image.Add(PlaceOf(line));
    } else if (!is_plain) {
      no_label.Add(fmt::format("{}, \"{}\"", PlaceOf(line), Printable(line.label)));
    } else if (labels[static_cast<size_t>(image)] != nullptr) {
      twice.Add(PlaceOf(line));
    } else {
      labels[static_cast<size_t>(image)] = &line.label;
    }
  }
  for (int64_t i = 0; i < members.size(); ++i) {
    const bool has_line = labels[static_cast<size_t>(i)] != nullptr;
    if (!has_line && no_label.count == 0) no_line.Add(Printable(members.Name(i)));
  }
  std::string faults;
  no_line.Tell("image has no line", "images have no line", faults);
  no_image.Tell("line has no image", "lines have no image", faults);
  twice.Tell("line names an image again", "lines name an image again", faults);
  no_label.Tell("line has no label that can be the name of a class",
                "lines have no label that can be the name of a class", faults);
  if (!faults.empty()) {
    throw Error(ExitCode::kData,
                fmt::format("{} does not fit the {} images in {}: {}", list.path,
                            FormatCount(members.size()), folder, faults),
                "give every image one line; move images without a label elsewhere");
  }
  MemberTableBuilder builder;
  for (int64_t i = 0; i < members.size(); ++i) {
    builder.Add(builder.Folder(*labels[static_cast<size_t>(i)]), members.Name(i), 0, 0, 0);
  }
  return builder.Finish({});
}

}  // namespace convoy
