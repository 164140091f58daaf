// dataloader/sources/csv.h - tables as text: RFC 4180, and what programs write instead.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace convoy {

struct CsvRow {
  int64_t line = 0;  // where it begins; the first line is 1
  std::vector<std::string> cells;
};

// Reads a table. Cells are separated by tabs, semicolons or commas: the first of these (in that
// order) that the first line holds. Cells may be quoted; "" in quotes is a quote. Lines end with LF
// or CRLF. A byte order mark, empty lines, and blanks around cells without quotes are dropped.
// `name` is for messages. Throws (kData) for a quote that does not end.
std::vector<CsvRow> ParseCsv(std::string_view text, const std::string& name);

}  // namespace convoy
