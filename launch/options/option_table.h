// launch/options/option_table.h - one table of options yields the parser, the help, the
// configuration files and the printed settings.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace convoy {

class OptionTable {
 public:
  // Takes the text of a value and stores what it means. Throws (kUsage) when it means nothing.
  using Store = std::function<void(const std::string& value)>;

  // `command` stands in messages and the help: "convoy train".
  OptionTable(std::string command, std::string summary);

  // Starts a group of options under a heading of the help.
  void Group(const std::string& heading);
  // `name` without dashes, or "name,n" with a one-letter form. `value` names what is expected
  // ("FILE", "N"). An empty `fallback` means that nothing is stored when the option is not given.
  void Add(const std::string& name, const std::string& value, const std::string& fallback,
           const std::string& help, Store store);
  // May be given several times; stored once per value.
  void AddRepeated(const std::string& name, const std::string& value, const std::string& help,
                   Store store);
  // Takes no value on the command line.
  void AddFlag(const std::string& name, const std::string& help, bool* target);
  // Says of the option added last that it belongs to one start, not to what a run is: Resolved()
  // leaves it out.
  void NotASetting();
  // The option added last is also taken under `name`, which it had in earlier versions: on the
  // command line, in files, and in the settings of old runs.
  void FormerName(const std::string& name);
  // Words without dashes: at least `minimum` of them.
  void Positional(const std::string& name, const std::string& help, size_t minimum,
                  std::vector<std::string>* target);
  // Adds --config and --recipe: files of the same names as the options. What stands on the command
  // line wins over --config, which wins over --recipe.
  void AcceptFiles();
  // Printed at the end of the help.
  void Examples(const std::string& text);

  // Parses and stores. Returns false when help was asked for and printed. Throws (kUsage), naming
  // the nearest valid option.
  bool Parse(int argc, const char* const* argv);

  // After Parse: gives a value, which is not stored, to an option that nobody gave, so that
  // Resolved shows it. For a default that hangs on other options.
  void ShowDefault(const std::string& name, const std::string& value);

  std::string Help() const;
  // Every setting with the value that was taken, "name = value" a line, ready for --config.
  std::string Resolved() const;
  // All that was asked for, in the same form: the command, its words, and the values of all
  // options. Of --config and --recipe it has what they set.
  std::string Asked() const;
  // Whether the option was given by anyone.
  bool Given(const std::string& name) const;

 private:
  struct Option {
    std::string name, former_name;
    char letter = 0;
    std::string value, fallback, help, heading;
    Store store;
    bool repeated = false, flag = false, is_setting = true;
    std::vector<std::string> taken;
    bool given = false;
  };
  static std::string LinesOf(const Option& option);
  static bool NamesAFile(const Option& option);  // of settings
  [[noreturn]] void RefuseUnknown(const std::string& name, const std::string& origin) const;
  void TakeFile(const std::string& origin, const std::string& text);
  void TakeArguments(int argc, const char* const* argv);
  Option* Find(const std::string& name);
  const Option* Find(const std::string& name) const;

  std::string command_, summary_, examples_, heading_ = "Options";
  std::vector<Option> options_;
  std::string positional_name_, positional_help_;
  size_t positional_minimum_ = 0;
  std::vector<std::string>* positional_ = nullptr;
  bool help_asked_ = false;
};

// Stores for common kinds of values. `option` names them in messages.
namespace store {

OptionTable::Store Text(std::string* target);
OptionTable::Store Integer(const std::string& option, int64_t minimum, int64_t maximum,
                           std::function<void(int64_t)> take);
OptionTable::Store Number(const std::string& option, double minimum, double maximum,
                          std::function<void(double)> take);
// on | off
OptionTable::Store Switch(const std::string& option, bool* target);

template <typename T>
OptionTable::Store Choice(const std::string& option, std::vector<std::pair<std::string, T>> choices,
                          T* target);
// Throws naming the choices and the nearest one.
[[noreturn]] void RefuseChoice(const std::string& option, const std::string& value,
                               const std::vector<std::string>& choices);

template <typename T>
OptionTable::Store Choice(const std::string& option, std::vector<std::pair<std::string, T>> choices,
                          T* target) {
  return [option, choices = std::move(choices), target](const std::string& value) {
    std::vector<std::string> names;
    for (const auto& [name, meaning] : choices) {
      if (name == value) {
        *target = meaning;
        return;
      }
      names.push_back(name);
    }
    RefuseChoice(option, value, names);
  };
}

}  // namespace store

}  // namespace convoy
