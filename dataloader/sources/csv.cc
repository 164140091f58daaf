#include "dataloader/sources/csv.h"

#include <utility>

#include "core/error.h"
#include "core/text.h"

namespace convoy {
namespace {

char SeparatorOf(std::string_view text) {
  const std::string_view first = text.substr(0, text.find('\n'));
  for (const char separator : {'\t', ';'}) {
    if (first.find(separator) != std::string_view::npos) return separator;
  }
  return ',';
}

// Reads cell after cell.
class CsvReader {
 public:
  CsvReader(std::string_view text, const std::string& name)
      : text_(text), name_(name), separator_(SeparatorOf(text)) {}

  bool AtEnd() const { return at_ >= text_.size(); }
  CsvRow ReadRow() {
    CsvRow row{line_, {}};
    do {
      row.cells.push_back(ReadCell());
    } while (Take(separator_));
    Take('\r');
    if (Take('\n')) ++line_;
    return row;
  }

 private:
  bool Take(char expected) {
    if (AtEnd() || text_[at_] != expected) return false;
    ++at_;
    return true;
  }
  // Returns the rest of a cell without quotes.
  std::string_view ReadPlain() {
    const size_t begin = at_;
    while (!AtEnd() && text_[at_] != separator_ && text_[at_] != '\n') ++at_;
    return text_.substr(begin, at_ - begin);
  }
  std::string ReadCell() {
    while (Take(' ')) {
    }
    if (!Take('"')) return std::string(Trim(ReadPlain()));
    const int64_t begin = line_;
    std::string cell;
    while (true) {
      if (AtEnd()) {
        throw Error(ExitCode::kData,
                    fmt::format("{}, line {}: a quote that does not end", name_, begin),
                    "write \"\" for a quote inside of quotes");
      }
      const char c = text_[at_++];
      if (c == '"' && !Take('"')) break;
      if (c == '\n') ++line_;
      cell += c;
    }
    // What follows a closing quote belongs to the cell too.
    return cell + std::string(Trim(ReadPlain()));
  }

  std::string_view text_;
  const std::string& name_;
  char separator_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

std::vector<CsvRow> ParseCsv(std::string_view text, const std::string& name) {
  CsvReader reader(WithoutByteOrderMark(text), name);
  std::vector<CsvRow> rows;
  while (!reader.AtEnd()) {
    CsvRow row = reader.ReadRow();
    if (row.cells.size() > 1 || !row.cells.front().empty()) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace convoy
