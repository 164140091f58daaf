#include "trainer/step/schedule.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/text.h"

namespace convoy {
namespace {

std::optional<double> FiniteNumber(const std::string& text) {
  const std::optional<double> number = ParseNumber(text);
  return number && std::isfinite(*number) ? number : std::nullopt;
}

// The numbers after the name of a schedule, if there are `count` and all are finite.
std::optional<std::vector<double>> NumbersOf(const schedules::Words& words, size_t count) {
  if (words.size() != count + 1) return std::nullopt;
  std::vector<double> numbers;
  for (size_t i = 1; i < words.size(); ++i) {
    const std::optional<double> number = FiniteNumber(words[i]);
    if (!number) return std::nullopt;
    numbers.push_back(*number);
  }
  return numbers;
}

// How many of `epochs`, which rise, have passed.
size_t CountPassed(const std::vector<double>& epochs, double epoch) {
  return static_cast<size_t>(std::upper_bound(epochs.begin(), epochs.end(), epoch) -
                             epochs.begin());
}

// The name in front of a syntax: "step" of "step:EPOCHS:FACTOR".
std::string NameIn(const std::string& syntax) {
  return syntax.substr(0, syntax.find_first_of(":["));
}

// Calls visit(kSyntax, parse) for every kind; `parse` makes a schedule of words.
template <typename Visit>
void ForEachKind(const Visit& visit) {
  [&]<typename... Kind>(const std::variant<Kind...>*) {
    (visit(Kind::kSyntax,
           [](const schedules::Words& words) -> std::optional<schedules::Any> {
             return Kind::Parse(words);
           }),
     ...);
  }(static_cast<const schedules::Any*>(nullptr));
}

[[noreturn]] void Refuse(const std::string& option, const std::string& text,
                         const std::string& expected) {
  throw Error(ExitCode::kUsage, fmt::format("--{} {}: expected {}", option, text, expected));
}

}  // namespace

double ScheduleInputs::Fraction() const {
  return total_epochs > 0 ? std::clamp(epoch / total_epochs, 0.0, 1.0) : 0;
}

namespace schedules {

std::optional<Constant> Constant::Parse(const Words& words) {
  return words.size() == 1 ? std::optional(Constant{}) : std::nullopt;
}
double Constant::At(double base, const ScheduleInputs&) const { return base; }

std::optional<Step> Step::Parse(const Words& words) {
  const auto numbers = NumbersOf(words, 2);
  if (!numbers || numbers->at(0) <= 0) return std::nullopt;
  return Step{.epochs = numbers->at(0), .factor = numbers->at(1)};
}
double Step::At(double base, const ScheduleInputs& now) const {
  return base * std::pow(factor, std::floor(now.epoch / epochs));
}

std::optional<Multistep> Multistep::Parse(const Words& words) {
  if (words.size() != 3) return std::nullopt;
  const std::optional<double> factor = FiniteNumber(words[2]);
  if (!factor) return std::nullopt;
  Multistep schedule{.epochs = {}, .factor = *factor};
  for (const std::string& word : Split(words[1], ',')) {
    const std::optional<double> epoch = FiniteNumber(word);
    if (!epoch) return std::nullopt;
    schedule.epochs.push_back(*epoch);
  }
  if (!std::is_sorted(schedule.epochs.begin(), schedule.epochs.end())) return std::nullopt;
  return schedule;
}
double Multistep::At(double base, const ScheduleInputs& now) const {
  return base * std::pow(factor, static_cast<double>(CountPassed(epochs, now.epoch)));
}

std::optional<Piecewise> Piecewise::Parse(const Words& words) {
  if (words.size() != 2) return std::nullopt;
  Piecewise schedule;
  for (const std::string& piece : Split(words[1], ',')) {
    const std::vector<std::string> sides = Split(piece, '=');
    if (sides.size() != 2) return std::nullopt;
    const std::optional<double> epoch = FiniteNumber(sides[0]), value = FiniteNumber(sides[1]);
    if (!epoch || !value) return std::nullopt;
    schedule.epochs.push_back(*epoch);
    schedule.values.push_back(*value);
  }
  if (!std::is_sorted(schedule.epochs.begin(), schedule.epochs.end())) return std::nullopt;
  return schedule;
}
double Piecewise::At(double base, const ScheduleInputs& now) const {
  const size_t passed = CountPassed(epochs, now.epoch);
  return passed == 0 ? base : values[passed - 1];
}

std::optional<Dexp> Dexp::Parse(const Words& words) {
  const auto numbers = NumbersOf(words, 2);
  if (!numbers || numbers->at(0) <= 0 || numbers->at(1) < 2) return std::nullopt;
  return Dexp{.factor = numbers->at(0), .levels = numbers->at(1)};
}
double Dexp::At(double base, const ScheduleInputs& now) const {
  const double level = std::min(std::floor(levels * now.Fraction()), levels - 1);
  return base * std::pow(factor, -level / (levels - 1));
}

std::optional<Poly> Poly::Parse(const Words& words) {
  const auto numbers = NumbersOf(words, 1);
  return numbers ? std::optional(Poly{.power = numbers->at(0)}) : std::nullopt;
}
double Poly::At(double base, const ScheduleInputs& now) const {
  return base * std::pow(1 - now.Fraction(), power);
}

std::optional<Cosine> Cosine::Parse(const Words& words) {
  if (words.size() == 1) return Cosine{};
  const auto numbers = NumbersOf(words, 1);
  return numbers ? std::optional(Cosine{.last = numbers->at(0)}) : std::nullopt;
}
double Cosine::At(double base, const ScheduleInputs& now) const {
  return last + (base - last) * (1 + std::cos(std::numbers::pi * now.Fraction())) / 2;
}

std::optional<Plateau> Plateau::Parse(const Words& words) {
  const auto numbers = NumbersOf(words, 2);
  if (!numbers || numbers->at(1) < 1) return std::nullopt;
  return Plateau{.factor = numbers->at(0), .patience = numbers->at(1)};
}
double Plateau::At(double base, const ScheduleInputs& now) const {
  if (now.evaluations == nullptr) return base;
  int drops = 0;
  double best = 1e300, waited = 0;
  for (const double error : *now.evaluations) {
    if (error < best) {
      best = error;
      waited = 0;
    } else if (++waited >= patience) {
      ++drops;
      waited = 0;
    }
  }
  return base * std::pow(factor, drops);
}

}  // namespace schedules

Schedule Schedule::Parse(const std::string& text, const std::string& option) {
  Schedule schedule;
  schedule.text_ = text;
  std::string body = text;
  if (const size_t plus = body.find('+'); plus != std::string::npos) {
    const schedules::Words words = Split(body.substr(plus + 1), ':');
    const auto epochs = NumbersOf(words, 1);
    if (words[0] != "warmup" || !epochs || epochs->at(0) <= 0) {
      Refuse(option, text, "+warmup:EPOCHS after the schedule");
    }
    schedule.warmup_epochs_ = epochs->at(0);
    body.resize(plus);
  }
  const schedules::Words words = Split(body, ':');
  bool is_known = false;
  ForEachKind([&](const std::string& syntax, const auto& parse) {
    if (NameIn(syntax) != words[0]) return;
    is_known = true;
    const std::optional<schedules::Any> kind = parse(words);
    if (!kind) Refuse(option, text, syntax + " with finite numbers in range and rising epochs");
    schedule.kind_ = *kind;
  });
  if (!is_known) Refuse(option, text, Syntax());
  return schedule;
}

std::string Schedule::Syntax() {
  std::vector<std::string> kinds;
  ForEachKind([&](const std::string& syntax, const auto&) { kinds.push_back(syntax); });
  return fmt::format("{}; +warmup:EPOCHS may follow", fmt::join(kinds, ", "));
}

bool Schedule::SpansTheRun() const {
  return std::holds_alternative<schedules::Dexp>(kind_) ||
         std::holds_alternative<schedules::Poly>(kind_) ||
         std::holds_alternative<schedules::Cosine>(kind_);
}

bool Schedule::NeedsEvaluations() const {
  return std::holds_alternative<schedules::Plateau>(kind_);
}

double Schedule::At(double base, const ScheduleInputs& now) const {
  const double value = std::visit([&](const auto& kind) { return kind.At(base, now); }, kind_);
  if (now.epoch >= warmup_epochs_) return value;
  return value * std::min(1.0, (now.epoch + now.step_epochs) / warmup_epochs_);
}

}  // namespace convoy
