// trainer/step/schedule.h - settings that change over time: a pure function of the epoch.
//
// Time is a real number: epoch 2.5 is the middle of the third epoch. So a resumed run needs no
// state but its place in time; only `plateau` also looks at the evaluations so far, which
// checkpoints keep.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace convoy {

// What a schedule may ask of the run.
struct ScheduleInputs {
  double epoch = 0;         // of the step, fraction included
  double step_epochs = 0;   // length of a step in epochs, so that warm-up does not start at 0
  double total_epochs = 1;  // of the run, until --steps if that is sooner
  // Top-1 error in percent of the evaluation after epoch 1, 2, ...; only `plateau` reads it.
  const std::vector<double>* evaluations = nullptr;

  // How much of the run has passed, from 0 to 1.
  double Fraction() const;
};

// One struct per kind of schedule. Parse takes the words between the colons and returns nothing if
// they are not as kSyntax says. At returns the value at a moment; `base` is the value that the
// setting has by itself.
namespace schedules {

using Words = std::vector<std::string>;

// base
struct Constant {
  static constexpr const char* kSyntax = "constant";
  static std::optional<Constant> Parse(const Words& words);
  double At(double base, const ScheduleInputs& now) const;
};

// base * factor^floor(epoch / epochs)
struct Step {
  static constexpr const char* kSyntax = "step:EPOCHS:FACTOR";
  double epochs, factor;
  static std::optional<Step> Parse(const Words& words);
  double At(double base, const ScheduleInputs& now) const;
};

// base * factor^(number of epochs in the list that have passed)
struct Multistep {
  static constexpr const char* kSyntax = "multistep:EPOCH,EPOCH,..:FACTOR";
  std::vector<double> epochs;
  double factor;
  static std::optional<Multistep> Parse(const Words& words);
  double At(double base, const ScheduleInputs& now) const;
};

// The value of the last epoch in the list that has passed; base before the first.
struct Piecewise {
  static constexpr const char* kSyntax = "piecewise:EPOCH=VALUE,EPOCH=VALUE,..";
  std::vector<double> epochs, values;
  static std::optional<Piecewise> Parse(const Words& words);
  double At(double base, const ScheduleInputs& now) const;
};

// base / factor^(level / (levels - 1)) with level = floor(levels * fraction): dexp:250:4 in 2013.
struct Dexp {
  static constexpr const char* kSyntax = "dexp:FACTOR:LEVELS";
  double factor, levels;
  static std::optional<Dexp> Parse(const Words& words);
  double At(double base, const ScheduleInputs& now) const;
};

// base * (1 - fraction)^power
struct Poly {
  static constexpr const char* kSyntax = "poly:POWER";
  double power;
  static std::optional<Poly> Parse(const Words& words);
  double At(double base, const ScheduleInputs& now) const;
};

// From base to `last` along half a cosine.
struct Cosine {
  static constexpr const char* kSyntax = "cosine[:LAST]";
  double last = 0;
  static std::optional<Cosine> Parse(const Words& words);
  double At(double base, const ScheduleInputs& now) const;
};

// base * factor for every `patience` evaluations in a row without a better top-1.
struct Plateau {
  static constexpr const char* kSyntax = "plateau:FACTOR:EVALUATIONS";
  double factor, patience;
  static std::optional<Plateau> Parse(const Words& words);
  double At(double base, const ScheduleInputs& now) const;
};

using Any = std::variant<Constant, Step, Multistep, Piecewise, Dexp, Poly, Cosine, Plateau>;

}  // namespace schedules

// A kind of schedule, and perhaps "+warmup:EPOCHS" after it: in these epochs the value rises from
// one step's share to the whole.
class Schedule {
 public:
  // Constant.
  Schedule() = default;
  // Throws (kUsage) quoting the text and what was expected. `option` names the setting.
  static Schedule Parse(const std::string& text, const std::string& option);
  // What Parse takes, for help: "constant, step:EPOCHS:FACTOR, ...".
  static std::string Syntax();

  double At(double base, const ScheduleInputs& now) const;
  const std::string& text() const { return text_; }
  // Whether it reads `total_epochs`.
  bool SpansTheRun() const;
  // Whether it reads `evaluations`: without any it never changes.
  bool NeedsEvaluations() const;

 private:
  std::string text_ = schedules::Constant::kSyntax;
  schedules::Any kind_;
  double warmup_epochs_ = 0;
};

}  // namespace convoy
