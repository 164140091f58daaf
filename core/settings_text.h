// core/settings_text.h - settings as text, "name = value" a line: config.cfg, the files of
// --config, and what a checkpoint keeps of the run that wrote it.
//
// '#' opens a comment. A value that begins with '"' ends at the next '"'; inside it, \" \\ \n \r \t
// are what they are in C, and '#' is an ordinary character. Any other value ends at the first '#'
// or at the end of the line, without the blanks around it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace convoy {

struct Setting {
  std::string name, value;
};

// Returns one line with its newline. The value stands between quotes if it needs them, so that
// ParseSettings gives back the same bytes.
std::string SettingLine(const std::string& name, const std::string& value);

// Returns the settings of a text in their order; names with '-' for '_'. A byte order mark of UTF-8
// and Windows' ends of lines are skipped. Throws (kUsage) naming `origin` and the line.
std::vector<Setting> ParseSettings(const std::string& origin, std::string_view text);

}  // namespace convoy
