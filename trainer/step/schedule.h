// trainer/step/schedule.h - settings that change over time: a pure function of the epoch.
//
// Time is a real number: epoch 2.5 is the middle of the third epoch. So a resumed run needs no
// state but its place in time; `plateau` alone also looks at the evaluations so far, which
// checkpoints keep.
#pragma once

#include <string>
#include <vector>

namespace convoy {

// What a schedule may ask of the run.
struct ScheduleInputs {
  double epoch = 0;         // of the step, fraction included
  double step_epochs = 0;   // length of one step in epochs, so that warm-up does not start at 0
  double total_epochs = 1;  // of the run, until --steps if that is sooner
  // Top-1 error in percent of the evaluation after epoch 1, 2, ...; only `plateau` reads it.
  const std::vector<double>* evaluations = nullptr;
};

// As said on the command line, with `base` the value that the setting has by itself:
//   constant             base
//   step:E:F             base * F^floor(epoch / E)
//   multistep:E,E,..:F   base * F^(number of E that have passed)
//   piecewise:E=V,E=V..  V from epoch E on, base before the first
//   dexp:F:L             base / F^(floor(L * epoch / total) / (L - 1)); dexp:250:4 in 2013
//   poly:P               base * (1 - epoch / total)^P
//   cosine[:V]           from base to V (default 0) along half a cosine
//   plateau:F:P          base * F for every P evaluations in a row without a better top-1
// and, behind any of them, +warmup:E: in the first E epochs times (epoch + a step's share) / E.
class Schedule {
 public:
  // Constant.
  Schedule() = default;
  // Throws (kUsage) quoting the part that is wrong. `option` names the setting in the message.
  static Schedule Parse(const std::string& text, const std::string& option);

  double At(double base, const ScheduleInputs& inputs) const;
  const std::string& text() const { return text_; }
  // Whether it reads `total_epochs`.
  bool SpansTheRun() const;
  // Whether it reads `evaluations`: without any it never changes.
  bool NeedsEvaluations() const { return kind_ == Kind::kPlateau; }

 private:
  enum class Kind { kConstant, kStep, kMultistep, kPiecewise, kDexp, kPoly, kCosine, kPlateau };
  double Unwarmed(double base, const ScheduleInputs& inputs) const;

  Kind kind_ = Kind::kConstant;
  std::string text_ = "constant";
  double factor_ = 1;  // step, multistep, dexp, plateau; power of poly; final value of cosine
  double period_ = 1;  // step: epochs; plateau: patience; dexp: levels
  double warmup_ = 0;  // epochs
  std::vector<double> epochs_;  // multistep, piecewise
  std::vector<double> values_;  // piecewise
};

}  // namespace convoy
