#include "dataloader/sources/shard_splits.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>
#include <set>

#include "core/text.h"
#include "dataloader/archives/names.h"

namespace convoy {
namespace {

bool IsNumber(std::string_view token) {
  return !token.empty() &&
         std::all_of(token.begin(), token.end(), [](unsigned char c) { return std::isdigit(c); });
}

// Returns whether a word may follow that of the split in a name: numbers, versions, "of".
bool IsOfNumber(std::string_view token) {
  return IsNumber(token) || token == "of" || token == "shard" || token == "part" ||
         (token.size() > 1 && token.front() == 'v' && IsNumber(token.substr(1)));
}

// Returns the runs of letters and digits up to the first point, in lower case.
std::vector<std::string> TokensOf(std::string_view path) {
  std::vector<std::string> tokens(1);
  const std::string base = LowerCase(BaseOf(path));
  for (const char c : base.substr(0, base.find('.'))) {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      tokens.back() += c;
    } else if (!tokens.back().empty()) {
      tokens.emplace_back();
    }
  }
  if (tokens.back().empty()) tokens.pop_back();
  return tokens;
}

// Returns whether a name is that of validation or test only, or with a number: a class "speed_test"
// is none.
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

// The parts of "x-000123-of-000200.tar": what stands around the number, and the two numbers.
struct NumberedName {
  std::string prefix, suffix;
  size_t digits = 0;
  int64_t number = 0;
  std::optional<int64_t> total;

  std::string WithNumber(int64_t other) const {
    return fmt::format("{}{:0{}}{}", prefix, other, digits, suffix);
  }
};

// Returns the last number before the first point, and the total after it. Nothing for names without
// a number.
std::optional<NumberedName> ParseNumbered(std::string_view path) {
  const std::string_view base = BaseOf(path);
  const auto is_digit = [&](size_t at) { return base[at] >= '0' && base[at] <= '9'; };
  NumberedName name;
  size_t end = std::min(base.find('.'), base.size());
  const auto begin_of_number = [&](size_t number_end) {
    size_t begin = number_end;
    while (begin > 0 && is_digit(begin - 1)) --begin;
    return begin;
  };
  constexpr std::string_view kOf = "-of-";
  const size_t total = begin_of_number(end);
  if (total < end && base.substr(0, total).ends_with(kOf)) {
    name.total = ParseInteger(base.substr(total, end - total));
    end = total - kOf.size();
  }
  const size_t begin = begin_of_number(end);
  const std::optional<int64_t> number = ParseInteger(base.substr(begin, end - begin));
  constexpr size_t kMostDigits = 12;
  const bool is_sane = end - begin <= kMostDigits && name.total.value_or(0) < int64_t{1} << 40;
  if (!number || !is_sane) return std::nullopt;
  name.prefix = base.substr(0, begin);
  name.suffix = base.substr(end);
  name.digits = end - begin;
  name.number = *number;
  return name;
}

}  // namespace

std::string FirstMissingShard(const std::vector<std::string>& paths) {
  std::set<int64_t> numbers;
  std::optional<NumberedName> first;
  for (const std::string& path : paths) {
    const std::optional<NumberedName> name = ParseNumbered(path);
    if (!name || (first && (name->prefix != first->prefix || name->suffix != first->suffix))) {
      return {};
    }
    if (!first) first = name;
    numbers.insert(name->number);
  }
  if (numbers.empty()) return {};
  // Numbers without a total may begin anywhere, and wnids lie far apart.
  const int64_t begin = first->total ? std::min<int64_t>(*numbers.begin(), 1) : *numbers.begin();
  const int64_t end = first->total ? begin + *first->total : *numbers.rbegin() + 1;
  const auto count = static_cast<int64_t>(numbers.size());
  if (!first->total && end - begin > 2 * count) return {};
  for (int64_t number = begin; number < end; ++number) {
    if (!numbers.contains(number)) return first->WithNumber(number);
  }
  return {};
}

std::string SplitOfWord(std::string_view word) {
  const std::string lower = LowerCase(word);
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
