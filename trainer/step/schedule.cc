#include "trainer/step/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/text.h"

namespace convoy {
namespace {

[[noreturn]] void Refuse(const std::string& option, const std::string& text,
                         const std::string& expected) {
  throw Error(ExitCode::kUsage, fmt::format("--{} {}: expected {}", option, text, expected));
}

double Number(const std::string& option, const std::string& text, const std::string& part,
              const std::string& expected) {
  const auto number = ParseNumber(part);
  if (!number || !std::isfinite(*number)) Refuse(option, text, expected);
  return *number;
}

// Times that `patience` evaluations in a row were no better than the best before them.
int DropsOf(const std::vector<double>& errors, double patience) {
  int drops = 0;
  double best = 1e300, waited = 0;
  for (double error : errors) {
    if (error < best) {
      best = error;
      waited = 0;
    } else if (++waited >= patience) {
      ++drops;
      waited = 0;
    }
  }
  return drops;
}

}  // namespace

Schedule Schedule::Parse(const std::string& text, const std::string& option) {
  Schedule schedule;
  schedule.text_ = text;
  std::string body = text;
  if (const size_t plus = body.find('+'); plus != std::string::npos) {
    const std::string tail = body.substr(plus + 1);
    const std::string expected = "+warmup:EPOCHS behind the schedule";
    if (!tail.starts_with("warmup:")) Refuse(option, text, expected);
    schedule.warmup_ = Number(option, text, tail.substr(7), expected);
    if (schedule.warmup_ <= 0) Refuse(option, text, expected);
    body.resize(plus);
  }
  const std::vector<std::string> parts = Split(body, ':');
  const auto number = [&](size_t part, const std::string& expected) {
    return Number(option, text, parts[part], expected);
  };
  const auto require = [&](bool holds, const std::string& expected) {
    if (!holds) Refuse(option, text, expected);
  };
  const std::string& kind = parts[0];
  if (kind == "constant") {
    require(parts.size() == 1, "constant");
  } else if (kind == "step") {
    const std::string expected = "step:EPOCHS:FACTOR";
    require(parts.size() == 3, expected);
    schedule.kind_ = Kind::kStep;
    schedule.period_ = number(1, expected);
    schedule.factor_ = number(2, expected);
    require(schedule.period_ > 0, expected);
  } else if (kind == "multistep") {
    const std::string expected = "multistep:EPOCH,EPOCH,..:FACTOR with rising epochs";
    require(parts.size() == 3, expected);
    schedule.kind_ = Kind::kMultistep;
    for (const std::string& epoch : Split(parts[1], ',')) {
      schedule.epochs_.push_back(Number(option, text, epoch, expected));
    }
    schedule.factor_ = number(2, expected);
    require(std::is_sorted(schedule.epochs_.begin(), schedule.epochs_.end()), expected);
  } else if (kind == "piecewise") {
    const std::string expected = "piecewise:EPOCH=VALUE,EPOCH=VALUE,.. with rising epochs";
    require(parts.size() == 2, expected);
    schedule.kind_ = Kind::kPiecewise;
    for (const std::string& piece : Split(parts[1], ',')) {
      const std::vector<std::string> sides = Split(piece, '=');
      require(sides.size() == 2, expected);
      schedule.epochs_.push_back(Number(option, text, sides[0], expected));
      schedule.values_.push_back(Number(option, text, sides[1], expected));
    }
    require(std::is_sorted(schedule.epochs_.begin(), schedule.epochs_.end()), expected);
  } else if (kind == "dexp") {
    const std::string expected = "dexp:FACTOR:LEVELS with two levels or more";
    require(parts.size() == 3, expected);
    schedule.kind_ = Kind::kDexp;
    schedule.factor_ = number(1, expected);
    schedule.period_ = number(2, expected);
    require(schedule.factor_ > 0 && schedule.period_ >= 2, expected);
  } else if (kind == "poly") {
    require(parts.size() == 2, "poly:POWER");
    schedule.kind_ = Kind::kPoly;
    schedule.factor_ = number(1, "poly:POWER");
  } else if (kind == "cosine") {
    require(parts.size() <= 2, "cosine or cosine:FINAL");
    schedule.kind_ = Kind::kCosine;
    schedule.factor_ = parts.size() == 2 ? number(1, "cosine:FINAL") : 0;
  } else if (kind == "plateau") {
    const std::string expected = "plateau:FACTOR:EVALUATIONS";
    require(parts.size() == 3, expected);
    schedule.kind_ = Kind::kPlateau;
    schedule.factor_ = number(1, expected);
    schedule.period_ = number(2, expected);
    require(schedule.period_ >= 1, expected);
  } else {
    Refuse(option, text,
           "constant, step, multistep, piecewise, dexp, poly, cosine or plateau, perhaps with "
           "+warmup:EPOCHS");
  }
  return schedule;
}

double Schedule::Unwarmed(double base, const ScheduleInputs& inputs) const {
  const double fraction =
      inputs.total_epochs > 0 ? std::clamp(inputs.epoch / inputs.total_epochs, 0.0, 1.0) : 0;
  const auto passed = static_cast<size_t>(
      std::upper_bound(epochs_.begin(), epochs_.end(), inputs.epoch) - epochs_.begin());
  switch (kind_) {
    case Kind::kConstant:
      return base;
    case Kind::kStep:
      return base * std::pow(factor_, std::floor(inputs.epoch / period_));
    case Kind::kMultistep:
      return base * std::pow(factor_, static_cast<double>(passed));
    case Kind::kPiecewise:
      return passed == 0 ? base : values_[passed - 1];
    case Kind::kDexp: {
      const double level = std::min(std::floor(period_ * fraction), period_ - 1);
      return base * std::pow(factor_, -level / (period_ - 1));
    }
    case Kind::kPoly:
      return base * std::pow(1 - fraction, factor_);
    case Kind::kCosine:
      return factor_ + (base - factor_) * (1 + std::cos(std::numbers::pi * fraction)) / 2;
    case Kind::kPlateau:
      return inputs.evaluations == nullptr
                 ? base
                 : base * std::pow(factor_, DropsOf(*inputs.evaluations, period_));
  }
  return base;
}

bool Schedule::SpansTheRun() const {
  return kind_ == Kind::kDexp || kind_ == Kind::kPoly || kind_ == Kind::kCosine;
}

double Schedule::At(double base, const ScheduleInputs& inputs) const {
  const double value = Unwarmed(base, inputs);
  if (inputs.epoch >= warmup_) return value;
  return value * std::min(1.0, (inputs.epoch + inputs.step_epochs) / warmup_);
}

}  // namespace convoy
