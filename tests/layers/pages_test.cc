// The pieces of code on the pages about adding something stand in the files that they name, so that
// no page tells of code that is gone.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/host/files.h"
#include "core/text.h"

namespace convoy {
namespace {

// Lines without indentation: a page may show an inner block at the margin.
std::string Dedented(const std::string& text) {
  std::string result;
  for (const std::string& line : Split(text, '\n')) {
    result += "\n" + line.substr(std::min(line.find_first_not_of(' '), line.size()));
  }
  return result;
}

std::string ReadSource(const std::string& path) {
  return ReadText(std::string(CONVOY_SOURCE_DIR) + "/" + path, ExitCode::kDisk);
}

struct Piece {
  std::string file, code;
};

// A piece is a line with only `FILE`, an empty line, and a fenced block.
std::vector<Piece> PiecesOf(const std::string& page) {
  std::vector<Piece> pieces;
  std::string file;
  bool inside = false;
  for (const std::string& line : Split(page, '\n')) {
    if (line == "```cpp") {
      pieces.push_back({file, ""});
      inside = true;
    } else if (line == "```") {
      inside = false;
    } else if (inside) {
      std::string& code = pieces.back().code;
      code += (code.empty() ? "" : "\n") + line;
    } else if (line.size() > 2 && line.front() == '`' && line.back() == '`') {
      file = line.substr(1, line.size() - 2);
    }
  }
  return pieces;
}

class Page : public testing::TestWithParam<const char*> {};

TEST_P(Page, ShowsCodeThatStandsInTheTree) {
  const std::vector<Piece> pieces = PiecesOf(ReadSource(GetParam()));
  ASSERT_GE(pieces.size(), 5u);
  for (const Piece& piece : pieces) {
    EXPECT_NE(Dedented(ReadSource(piece.file)).find(Dedented(piece.code)), std::string::npos)
        << piece.file << " no longer holds\n"
        << piece.code;
  }
}

INSTANTIATE_TEST_SUITE_P(, Page, testing::Values("docs/add-a-layer.md", "docs/add-an-optimiser.md"),
                         [](const auto& instance) {
                           return std::string(instance.param).ends_with("layer.md")
                                      ? "AddALayer"
                                      : "AddAnOptimiser";
                         });

}  // namespace
}  // namespace convoy
