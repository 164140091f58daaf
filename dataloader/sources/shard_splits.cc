#include "dataloader/sources/shard_splits.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "dataloader/archives/names.h"

namespace convoy {
namespace {

bool IsNumber(std::string_view token) {
  return !token.empty() &&
         std::all_of(token.begin(), token.end(), [](unsigned char c) { return std::isdigit(c); });
}

// What may follow the word in a name: numbers, versions, "of".
bool IsOfNumber(std::string_view token) {
  return IsNumber(token) || token == "of" || token == "shard" || token == "part" ||
         (token.size() > 1 && token.front() == 'v' && IsNumber(token.substr(1)));
}

// Runs of letters and digits up to the first point, in lower case.
std::vector<std::string> TokensOf(std::string_view path) {
  std::vector<std::string> tokens(1);
  const std::string_view base = BaseOf(path);
  for (const char c : base.substr(0, base.find('.'))) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte)) {
      tokens.back() += static_cast<char>(std::tolower(byte));
    } else if (!tokens.back().empty()) {
      tokens.emplace_back();
    }
  }
  if (tokens.back().empty()) tokens.pop_back();
  return tokens;
}

// Named as validation or test and nothing else, or with a number: no "speed_test" among classes.
bool IsSurelyHeldOut(const std::string& path) {
  const std::string split = SplitOfShard(path);
  if (split != "val" && split != "test") return false;
  const std::vector<std::string> tokens = TokensOf(path);
  return tokens.size() == 1 || std::isdigit(static_cast<unsigned char>(tokens.back().back()));
}

// "train0001" -> "train".
std::string WithoutNumber(std::string token) {
  while (!token.empty() && std::isdigit(static_cast<unsigned char>(token.back()))) token.pop_back();
  return token;
}

}  // namespace

std::string SplitOfWord(std::string_view word) {
  std::string lower(word);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (lower == "train" || lower == "training") return "train";
  if (lower == "val" || lower == "valid" || lower == "validation") return "val";
  if (lower == "test" || lower == "testing") return "test";
  return {};
}

std::string SplitOfShard(std::string_view path) {
  const std::vector<std::string> tokens = TokensOf(path);
  for (auto token = tokens.rbegin(); token != tokens.rend(); ++token) {
    const std::string split = SplitOfWord(WithoutNumber(*token));
    if (!split.empty()) return split;
    if (!IsOfNumber(*token)) return {};
  }
  return {};
}

std::vector<std::string> SplitsOfShards(const std::vector<std::string>& paths) {
  std::set<std::string> splits;
  for (const std::string& path : paths) splits.insert(SplitOfShard(path));
  const bool all_name_one = !splits.contains("");
  const bool any_is_sure = std::any_of(paths.begin(), paths.end(), IsSurelyHeldOut);
  if (!all_name_one && !any_is_sure) return {};
  return {splits.begin(), splits.end()};
}

}  // namespace convoy
