// layers/update_rules.h - how an optimiser changes weights: one struct per rule.
//
// A rule says how many states it keeps per weight and under which names, what its settings are when
// nobody gives any, and what happens to one weight in Apply, which the CPU and CUDA backends share
// (the oracle has its own text). Rates are the numbers that Apply needs for one parameter at one
// step; the host works them out. docs/add-an-optimiser.md adds a rule step by step.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "core/device/host_device.h"

namespace convoy {

// The settings of one parameter at one step.
struct ParameterRates {
  double lr = 0;  // 0: the parameter is frozen, and neither it nor its states change
  double momentum = 0;
  double weight_decay = 0;
  int64_t updates = 0;  // how many updates it has had before this one
  bool operator==(const ParameterRates&) const = default;
};

// What the rules have in common that keep one velocity per weight.
struct MomentumRule {
  static constexpr std::array kStates = {"momentum"};
  static constexpr double kLr = 0.01, kWeightDecay = 0.0005;
  struct Rates {
    float lr, momentum, decay;
    bool operator==(const Rates&) const = default;
  };
  static Rates RatesOf(const ParameterRates& given);
};

// The rule of the paper, section 5: the rate is inside the velocity.
//   v = momentum * v - lr * (decay * w + g)
//   w = w + v
struct PaperRule : MomentumRule {
  static constexpr const char* kName = "paper";
  CONVOY_HOST_DEVICE static void Apply(const Rates& rates, float g, float& w, float& v) {
    v = rates.momentum * v - rates.lr * (rates.decay * w + g);
    w += v;
  }
};

// PyTorch's SGD: the rate is outside the velocity.
//   v = momentum * v + (g + decay * w)
//   w = w - lr * v
struct SgdRule : MomentumRule {
  static constexpr const char* kName = "sgd";
  CONVOY_HOST_DEVICE static void Apply(const Rates& rates, float g, float& w, float& v) {
    v = rates.momentum * v + (g + rates.decay * w);
    w -= rates.lr * v;
  }
};

// PyTorch's SGD with nesterov=True.
//   d = g + decay * w
//   v = momentum * v + d
//   w = w - lr * (d + momentum * v)
struct NesterovRule : MomentumRule {
  static constexpr const char* kName = "nesterov";
  CONVOY_HOST_DEVICE static void Apply(const Rates& rates, float g, float& w, float& v) {
    const float direction = g + rates.decay * w;
    v = rates.momentum * v + direction;
    w -= rates.lr * (direction + rates.momentum * v);
  }
};

// Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1, in PyTorch's form; `t` counts from 1.
//   d = g + decay * w
//   m = beta1 * m + (1 - beta1) * d
//   v = beta2 * v + (1 - beta2) * d^2
//   w = w - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)
struct AdamRule {
  static constexpr const char* kName = "adam";
  static constexpr std::array kStates = {"adam_m", "adam_v"};
  static constexpr double kLr = 0.001, kWeightDecay = 0;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  struct Rates {
    float lr;  // with the correction of m
    float beta1, gain1, beta2, gain2;
    float correction;  // of sqrt(v)
    float eps;
    float decay;
    bool operator==(const Rates&) const = default;
  };
  Rates RatesOf(const ParameterRates& given) const;
  CONVOY_HOST_DEVICE static void Apply(const Rates& rates, float g, float& w, float& m, float& v) {
    Step(rates, g + rates.decay * w, w, m, v);
  }
  CONVOY_HOST_DEVICE static void Step(const Rates& rates, float direction, float& w, float& m,
                                      float& v) {
    m = rates.beta1 * m + rates.gain1 * direction;
    v = rates.beta2 * v + rates.gain2 * (direction * direction);
    w -= rates.lr * m / (std::sqrt(v) * rates.correction + rates.eps);
  }
};

// Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2, in PyTorch's form: Adam whose decay
// does not pass through m and v.
//   w = w - lr * decay * w, and then Adam's step with d = g
struct AdamWRule {
  static constexpr const char* kName = "adamw";
  static constexpr std::array kStates = AdamRule::kStates;
  static constexpr double kLr = 0.001, kWeightDecay = 0.01;
  AdamRule adam;
  using Rates = AdamRule::Rates;  // `decay` is lr * decay
  Rates RatesOf(const ParameterRates& given) const;
  CONVOY_HOST_DEVICE static void Apply(const Rates& rates, float g, float& w, float& m, float& v) {
    w -= rates.decay * w;
    AdamRule::Step(rates, g, w, m, v);
  }
};

// You, Gitman and Ginsburg 2017 (arXiv 1708.03888), algorithm 1. `trust` is worked out per tensor:
// eta * |w| / (|g| + decay * |w|), and 1 for tensors that do not adapt (biases, batch norm) or if a
// norm is 0.
//   v = momentum * v + lr * trust * (g + decay * w)
//   w = w - v
struct LarsRule : MomentumRule {
  static constexpr const char* kName = "lars";
  static constexpr double kLr = 1;
  double eta = 0.001;
  // `rates.lr` has `trust` in it, once the norms are known.
  CONVOY_HOST_DEVICE static void Apply(const Rates& rates, float g, float& w, float& v) {
    v = rates.momentum * v + rates.lr * (g + rates.decay * w);
    w -= v;
  }
};

using UpdateRule = std::variant<PaperRule, SgdRule, NesterovRule, AdamRule, AdamWRule, LarsRule>;

// What is asked of any rule.
std::string NameOf(const UpdateRule& rule);
// The names of its states, in the order in which Apply sees them.
std::vector<std::string> StateNamesOf(const UpdateRule& rule);
double DefaultLr(const UpdateRule& rule);
double DefaultWeightDecay(const UpdateRule& rule);
// One rule of every kind, with its default settings.
std::vector<UpdateRule> AllUpdateRules();

}  // namespace convoy
