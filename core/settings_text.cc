#include "core/settings_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/text.h"

namespace convoy {
namespace {

struct Escape {
  char letter, meaning;
};
constexpr Escape kEscapes[] = {{'"', '"'}, {'\\', '\\'}, {'n', '\n'}, {'r', '\r'}, {'t', '\t'}};

bool NeedsQuotes(const std::string& value) {
  const auto is_special = [](char c) {
    return c == '"' || c == '#' || static_cast<unsigned char>(c) < ' ';
  };
  return value.empty() || Trim(value) != value ||
         std::any_of(value.begin(), value.end(), is_special);
}

std::string Quoted(const std::string& value) {
  std::string text = "\"";
  for (const char c : value) {
    const auto* escape = std::find_if(std::begin(kEscapes), std::end(kEscapes),
                                      [c](const Escape& known) { return known.meaning == c; });
    if (escape == std::end(kEscapes)) {
      text += c;
    } else {
      text += {'\\', escape->letter};
    }
  }
  return text + '"';
}

// The place of a line, for messages.
struct Place {
  const std::string& origin;
  int line;

  [[noreturn]] void Refuse(const std::string& expected, std::string_view found) const {
    throw Error(ExitCode::kUsage,
                fmt::format("{} line {}: expected {}, found '{}'", origin, line, expected, found));
  }
};

// Returns the value of `text`, which begins with a quote.
std::string Unquoted(std::string_view text, const Place& place) {
  std::string value;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '"') {
      const std::string_view rest = Trim(text.substr(i + 1));
      if (!rest.empty() && rest[0] != '#') {
        place.Refuse("nothing but a comment after the closing quote", text);
      }
      return value;
    }
    const auto* escape = std::end(kEscapes);
    if (text[i] == '\\' && i + 1 < text.size()) {
      escape = std::find_if(std::begin(kEscapes), std::end(kEscapes),
                            [&](const Escape& known) { return known.letter == text[i + 1]; });
    }
    if (escape == std::end(kEscapes)) {
      value += text[i];
    } else {
      value += escape->meaning;
      ++i;
    }
  }
  place.Refuse("a closing quote", text);
}

void RequireUtf8(const std::string& origin, std::string_view text) {
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) {
    throw Error(ExitCode::kUsage, fmt::format("{}: expected UTF-8, found UTF-16", origin),
                "save it as UTF-8");
  }
}

}  // namespace

std::string SettingLine(const std::string& name, const std::string& value) {
  return fmt::format("{} = {}\n", name, NeedsQuotes(value) ? Quoted(value) : value);
}

std::vector<Setting> ParseSettings(const std::string& origin, std::string_view text) {
  RequireUtf8(origin, text);
  std::vector<Setting> settings;
  int number = 0;
  for (const std::string& line : Split(WithoutByteOrderMark(text), '\n')) {
    const Place place{origin, ++number};
    const std::string_view body = Trim(line);
    if (body.empty() || body[0] == '#') continue;
    const size_t equals = body.find_first_of("=#");
    if (equals == std::string_view::npos || body[equals] == '#') {
      place.Refuse("name = value", body);
    }
    std::string name(Trim(body.substr(0, equals)));
    std::replace(name.begin(), name.end(), '_', '-');
    const std::string_view value = Trim(body.substr(equals + 1));
    settings.push_back({std::move(name), value.starts_with('"') ? Unquoted(value, place)
                                                                : std::string(Trim(value.substr(
                                                                      0, value.find('#'))))});
  }
  return settings;
}

}  // namespace convoy
