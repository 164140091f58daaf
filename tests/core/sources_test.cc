// Holds the lists of sources in the CMakeLists.txt against the files of the tree, so that no
// source, test or recipe is forgotten. It reads the lists as text: sources that this build leaves
// out (CUDA's) count too.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>

namespace convoy {
namespace {

namespace fs = std::filesystem;

using Files = std::set<std::string>;  // paths from the root

fs::path Root() { return CONVOY_SOURCE_DIR; }

// Returns whether a file of this name must be in a list.
bool IsListed(std::string_view name) {
  return name.ends_with(".cc") || name.ends_with(".cu") || name.ends_with(".cfg") ||
         name.ends_with("_test.py");
}

// Returns the files that the text of the CMakeLists.txt in `folder` (a path from the root) names.
// A path that starts with the source folder's variable is one from the root. What lies in the build
// tree is left out.
Files FilesNamedIn(const std::string& text, const fs::path& folder) {
  static const std::regex comment("#[^\n]*");
  std::string words = std::regex_replace(text, comment, "");
  std::replace_if(
      words.begin(), words.end(), [](char c) { return c == '(' || c == ')' || c == '"'; }, ' ');
  const std::string from_root = "${PROJECT_SOURCE_DIR}/";
  Files files;
  std::istringstream stream(words);
  for (std::string word; stream >> word;) {
    if (!IsListed(word)) continue;
    if (word.starts_with(from_root)) {
      files.insert(word.substr(from_root.size()));
    } else if (word.find('$') == std::string::npos) {
      files.insert((folder / word).lexically_normal().string());
    }
  }
  return files;
}

struct Tree {
  Files there;   // the files that lie in the tree
  Files listed;  // the files that its lists name
};

// Reads all folders of the root except build trees and hidden folders.
Tree ReadTree() {
  Tree tree;
  for (const auto& top : fs::directory_iterator(Root())) {
    const std::string folder = top.path().filename().string();
    if (!top.is_directory() || folder.starts_with(".") || folder.starts_with("build")) continue;
    for (const auto& entry : fs::recursive_directory_iterator(top)) {
      const fs::path path = fs::relative(entry.path(), Root());
      if (IsListed(path.filename().string())) tree.there.insert(path.string());
      if (path.filename() != "CMakeLists.txt") continue;
      std::ifstream file(entry.path());
      const std::string text{std::istreambuf_iterator<char>(file), {}};
      tree.listed.merge(FilesNamedIn(text, path.parent_path()));
    }
  }
  return tree;
}

// Returns the files of `some` that are not in `others`, one a line.
std::string MissingFrom(const Files& others, const Files& some) {
  Files missing;
  std::set_difference(some.begin(), some.end(), others.begin(), others.end(),
                      std::inserter(missing, missing.end()));
  return fmt::format("{}", fmt::join(missing, "\n"));
}

TEST(Sources, EveryFileIsInAList) {
  const Tree tree = ReadTree();
  ASSERT_GT(tree.there.size(), 100u) << "the sources were not found";
  EXPECT_EQ(MissingFrom(tree.listed, tree.there), "") << "add them to their CMakeLists.txt";
}

TEST(Sources, EveryFileOfAListIsThere) {
  const Tree tree = ReadTree();
  ASSERT_GT(tree.listed.size(), 100u) << "the lists were not found";
  EXPECT_EQ(MissingFrom(tree.there, tree.listed), "") << "take them out of their CMakeLists.txt";
}

TEST(Sources, AListIsReadAsCMakeReadsIt) {
  const std::string text = R"(
# comm/forgotten.cc
add_library(comm buckets.cc
  mpi/world.cc) # host/forgotten.cc
add_executable(program "${PROJECT_SOURCE_DIR}/core/text.cc" "${CMAKE_CURRENT_BINARY_DIR}/made.cc")
configure_file(template.cc.in made.cc.out)
foreach(file IN ITEMS system/faults_test.py recipes/small.cfg)
)";
  const Files expected = {"comm/buckets.cc", "comm/mpi/world.cc", "core/text.cc",
                          "comm/recipes/small.cfg", "comm/system/faults_test.py"};
  EXPECT_EQ(FilesNamedIn(text, "comm"), expected);
}

TEST(Sources, AForgottenFileIsNamed) {
  EXPECT_EQ(MissingFrom({"comm/a.cc", "comm/b.cc"}, {"comm/b.cc", "comm/c.cc"}), "comm/c.cc");
}

}  // namespace
}  // namespace convoy
