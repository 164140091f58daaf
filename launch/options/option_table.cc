#include "launch/options/option_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <sstream>
#include <utility>

#include <boost/program_options.hpp>

#include "core/error.h"
#include "core/host/files.h"
#include "core/settings_text.h"
#include "core/text.h"
#include "launch/options/recipes.h"

namespace convoy {
namespace {

namespace po = boost::program_options;

constexpr const char* kPositional = "positional";
constexpr int64_t kMaxFileBytes = 1 << 20;  // of a file of settings

// Options may be written with '_' for '-': "--batch_size" is "--batch-size".
std::string WithDashes(const std::string& argument) {
  if (!argument.starts_with("--")) return argument;
  std::string result = argument;
  const size_t end = std::min(result.find('='), result.size());
  std::replace(result.begin(), result.begin() + static_cast<std::ptrdiff_t>(end), '_', '-');
  return result;
}

// Breaks `text` into lines of at most `width` characters.
std::vector<std::string> Wrap(const std::string& text, size_t width) {
  std::vector<std::string> lines(1);
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    std::string& line = lines.back();
    if (!line.empty() && line.size() + 1 + word.size() > width) {
      lines.push_back(word);
    } else {
      line += (line.empty() ? "" : " ") + word;
    }
  }
  return lines;
}

}  // namespace

OptionTable::OptionTable(std::string command, std::string summary)
    : command_(std::move(command)), summary_(std::move(summary)) {}

void OptionTable::Group(const std::string& heading) { heading_ = heading; }

void OptionTable::Add(const std::string& name, const std::string& value,
                      const std::string& fallback, const std::string& help, Store store) {
  const size_t comma = name.find(',');
  Option option{.name = name.substr(0, comma),
                .letter = comma == std::string::npos ? '\0' : name[comma + 1],
                .value = value,
                .fallback = fallback,
                .help = help,
                .heading = heading_,
                .store = std::move(store)};
  CONVOY_CHECK(Find(option.name) == nullptr, "option {} twice", option.name);
  options_.push_back(std::move(option));
}

void OptionTable::AddRepeated(const std::string& name, const std::string& value,
                              const std::string& help, Store store) {
  Add(name, value, "", help, std::move(store));
  options_.back().repeated = true;
}

void OptionTable::AddFlag(const std::string& name, const std::string& help, bool* target) {
  Add(name, "", "off", help, store::Switch(name, target));
  options_.back().flag = true;
}

void OptionTable::NotASetting() { options_.back().is_setting = false; }

void OptionTable::Positional(const std::string& name, const std::string& help, size_t minimum,
                             std::vector<std::string>* target) {
  positional_name_ = name;
  positional_help_ = help;
  positional_minimum_ = minimum;
  positional_ = target;
}

void OptionTable::AcceptFiles() {
  Group("Files of settings");
  Add("config", "FILE", "", "take settings from FILE: lines of name = value, # for comments",
      [](const std::string&) {});
  NotASetting();
  Add("recipe", "NAME", "",
      fmt::format("take the settings of a recipe: {}", fmt::join(RecipeNames(), ", ")),
      [](const std::string&) {});
  NotASetting();
}

void OptionTable::FormerName(const std::string& name) { options_.back().former_name = name; }

void OptionTable::ShowDefault(const std::string& name, const std::string& value) {
  Option* option = Find(name);
  CONVOY_CHECK(option != nullptr, "no option {}", name);
  if (option->taken.empty()) option->taken = {value};
}

bool OptionTable::NamesAFile(const Option& option) {
  return option.name == "config" || option.name == "recipe";
}

void OptionTable::Examples(const std::string& text) { examples_ = text; }

OptionTable::Option* OptionTable::Find(const std::string& name) {
  const auto found = std::find_if(options_.begin(), options_.end(), [&](const Option& option) {
    return option.name == name || option.former_name == name;
  });
  return found == options_.end() ? nullptr : &*found;
}

const OptionTable::Option* OptionTable::Find(const std::string& name) const {
  return const_cast<OptionTable*>(this)->Find(name);
}

bool OptionTable::Given(const std::string& name) const {
  const Option* option = Find(name);
  CONVOY_CHECK(option != nullptr, "no option {}", name);
  return option->given;
}

bool OptionTable::Parse(int argc, const char* const* argv) {
  TakeArguments(argc, argv);
  if (help_asked_) {
    std::cout << Help();
    return false;
  }
  if (const Option* config = Find("config"); config != nullptr && config->given) {
    const std::string& path = config->taken.back();
    TakeFile(path, ReadText(path, ExitCode::kUsage, kMaxFileBytes));
  }
  if (const Option* recipe = Find("recipe"); recipe != nullptr && recipe->given) {
    TakeFile("recipe " + recipe->taken.back(), RecipeText(recipe->taken.back()));
  }
  for (Option& option : options_) {
    if (!option.given && !option.fallback.empty()) option.taken = {option.fallback};
    for (const std::string& value : option.taken) option.store(value);
  }
  if (positional_ != nullptr && positional_->size() < positional_minimum_) {
    throw Error(ExitCode::kUsage, fmt::format("{}: {} is missing", command_, positional_name_),
                fmt::format("see {} --help", command_));
  }
  return true;
}

void OptionTable::TakeArguments(int argc, const char* const* argv) {
  po::options_description description;
  auto add = description.add_options();
  add("help,h", "");
  add(kPositional, po::value<std::vector<std::string>>()->default_value({}, ""));
  for (const Option& option : options_) {
    const std::string name =
        option.letter == 0 ? option.name : fmt::format("{},{}", option.name, option.letter);
    // A switch may stand without a value.
    auto* value = po::value<std::vector<std::string>>()->composing();
    if (option.flag) value->implicit_value({"on"}, "on")->zero_tokens();
    add(name.c_str(), value);
    if (!option.former_name.empty()) {
      add(option.former_name.c_str(), po::value<std::vector<std::string>>()->composing());
    }
  }
  po::positional_options_description positional;
  positional.add(kPositional, -1);

  std::vector<std::string> arguments;
  arguments.reserve(static_cast<size_t>(argc));
  for (int i = 0; i < argc; ++i) arguments.push_back(WithDashes(argv[i]));
  po::variables_map values;
  try {
    const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    po::store(po::command_line_parser(arguments)
                  .options(description)
                  .positional(positional)
                  .style(style)
                  .run(),
              values);
  } catch (const po::unknown_option& error) {
    RefuseUnknown(error.get_option_name(), "");
  } catch (const po::error& error) {
    throw Error(ExitCode::kUsage, fmt::format("{}: {}", command_, error.what()),
                fmt::format("see {} --help", command_));
  }
  help_asked_ = values.count("help") > 0;
  const auto words = values[kPositional].as<std::vector<std::string>>();
  if (positional_ != nullptr) {
    *positional_ = words;
  } else if (!words.empty() && !help_asked_) {
    throw Error(ExitCode::kUsage, fmt::format("{}: unexpected word '{}'", command_, words[0]),
                fmt::format("options begin with --; see {} --help", command_));
  }
  for (Option& option : options_) {
    for (const std::string& name : {option.former_name, option.name}) {
      if (values.count(name) == 0) continue;
      option.taken = values[name].as<std::vector<std::string>>();
      option.given = true;
    }
    if (!option.repeated && option.taken.size() > 1) option.taken = {option.taken.back()};
  }
}

void OptionTable::RefuseUnknown(const std::string& name, const std::string& origin) const {
  std::vector<std::string> names;
  for (const Option& option : options_) names.push_back("--" + option.name);
  const std::string dashed = name.starts_with("-") ? name : "--" + name;
  const auto nearest = NearestName(dashed, names);
  throw Error(
      ExitCode::kUsage,
      fmt::format("{}{}: there is no option {}", command_, origin.empty() ? "" : ", " + origin,
                  dashed),
      nearest ? fmt::format("did you mean {}?", *nearest) : fmt::format("see {} --help", command_));
}

void OptionTable::TakeFile(const std::string& origin, const std::string& text) {
  // Who came first wins; within one file a repeated option collects.
  std::vector<std::string> set_here;
  for (const auto& [name, value] : ParseSettings(origin, text)) {
    Option* option = Find(name);
    if (option == nullptr || NamesAFile(*option)) RefuseUnknown(name, origin);
    const bool here = std::find(set_here.begin(), set_here.end(), name) != set_here.end();
    if (option->given && !here) continue;
    if (!option->repeated) option->taken.clear();
    option->taken.push_back(value);
    option->given = true;
    set_here.push_back(name);
  }
}

std::string OptionTable::LinesOf(const Option& option) {
  std::string text;
  for (const std::string& value : option.taken) text += SettingLine(option.name, value);
  return text;
}

std::string OptionTable::Resolved() const {
  std::string text;
  for (const Option& option : options_) {
    if (option.is_setting) text += LinesOf(option);
  }
  return text;
}

std::string OptionTable::Asked() const {
  std::string text = SettingLine("command", command_);
  if (positional_ != nullptr) {
    for (const std::string& word : *positional_) {
      text += SettingLine(positional_name_, word);
    }
  }
  for (const Option& option : options_) {
    if (!NamesAFile(option)) text += LinesOf(option);
  }
  return text;
}

std::string OptionTable::Help() const {
  constexpr size_t kColumn = 30, kWidth = 96;
  std::string text = fmt::format("{} - {}\n\nUsage: {} [options]{}\n", command_, summary_, command_,
                                 positional_ != nullptr ? " " + positional_name_ : "");
  if (positional_ != nullptr) text += fmt::format("  {}: {}\n", positional_name_, positional_help_);
  std::string heading;
  for (const Option& option : options_) {
    if (option.heading != heading) {
      heading = option.heading;
      text += fmt::format("\n{}\n", heading);
    }
    std::string left = option.letter == 0 ? "  " : fmt::format("  -{}, ", option.letter);
    left += "--" + option.name + (option.value.empty() ? "" : " " + option.value);
    std::string help = option.help;
    if (!option.fallback.empty() && !option.flag) help += fmt::format(" [{}]", option.fallback);
    const std::vector<std::string> lines = Wrap(help, kWidth - kColumn);
    if (left.size() + 1 > kColumn) {
      text += left + "\n";
      left.clear();
    }
    for (const std::string& line : lines) {
      text += fmt::format("{:<{}}{}\n", left, kColumn, line);
      left.clear();
    }
  }
  if (!examples_.empty()) text += "\n" + examples_;
  return text;
}

namespace store {

OptionTable::Store Text(std::string* target) {
  return [target](const std::string& value) { *target = value; };
}

OptionTable::Store Integer(const std::string& option, int64_t minimum, int64_t maximum,
                           std::function<void(int64_t)> take) {
  return [=, take = std::move(take)](const std::string& value) {
    const auto number = ParseInteger(value);
    if (!number || *number < minimum || *number > maximum) {
      throw Error(ExitCode::kUsage,
                  maximum == INT64_MAX
                      ? fmt::format("--{} {}: expected a whole number of at least {}", option,
                                    value, minimum)
                      : fmt::format("--{} {}: expected a whole number from {} to {}", option, value,
                                    minimum, maximum));
    }
    take(*number);
  };
}

OptionTable::Store Number(const std::string& option, double minimum, double maximum,
                          std::function<void(double)> take) {
  return [=, take = std::move(take)](const std::string& value) {
    const auto number = ParseNumber(value);
    if (!number || !(*number >= minimum && *number <= maximum)) {
      throw Error(ExitCode::kUsage, fmt::format("--{} {}: expected a number from {} to {}", option,
                                                value, minimum, maximum));
    }
    take(*number);
  };
}

OptionTable::Store Switch(const std::string& option, bool* target) {
  return Choice<bool>(option, {{"on", true}, {"off", false}}, target);
}

void RefuseChoice(const std::string& option, const std::string& value,
                  const std::vector<std::string>& choices) {
  const auto nearest = NearestName(value, choices);
  throw Error(ExitCode::kUsage,
              fmt::format("--{} {}: expected {}", option, value, fmt::join(choices, ", ")),
              nearest ? fmt::format("did you mean {}?", *nearest) : "");
}

}  // namespace store

}  // namespace convoy
