#include "layers/update_rules.h"

#include <utility>

namespace convoy {
namespace {

template <size_t... kIndex>
std::vector<UpdateRule> RulesOf(std::index_sequence<kIndex...>) {
  return {UpdateRule(std::in_place_index<kIndex>)...};
}

}  // namespace

MomentumRule::Rates MomentumRule::RatesOf(const ParameterRates& given) {
  return {.lr = static_cast<float>(given.lr),
          .momentum = static_cast<float>(given.momentum),
          .decay = static_cast<float>(given.weight_decay)};
}

AdamRule::Rates AdamRule::RatesOf(const ParameterRates& given) const {
  const auto t = static_cast<double>(given.updates + 1);
  return {.lr = static_cast<float>(given.lr / (1 - std::pow(beta1, t))),
          .beta1 = static_cast<float>(beta1),
          .gain1 = static_cast<float>(1 - beta1),
          .beta2 = static_cast<float>(beta2),
          .gain2 = static_cast<float>(1 - beta2),
          .correction = static_cast<float>(1 / std::sqrt(1 - std::pow(beta2, t))),
          .eps = static_cast<float>(eps),
          .decay = static_cast<float>(given.weight_decay)};
}

AdamWRule::Rates AdamWRule::RatesOf(const ParameterRates& given) const {
  Rates rates = adam.RatesOf(given);
  rates.decay = static_cast<float>(given.lr * given.weight_decay);
  return rates;
}

std::string NameOf(const UpdateRule& rule) {
  return std::visit([](const auto& r) { return std::string(r.kName); }, rule);
}

std::vector<std::string> StateNamesOf(const UpdateRule& rule) {
  return std::visit(
      [](const auto& r) { return std::vector<std::string>(r.kStates.begin(), r.kStates.end()); },
      rule);
}

double DefaultLr(const UpdateRule& rule) {
  return std::visit([](const auto& r) { return r.kLr; }, rule);
}

double DefaultWeightDecay(const UpdateRule& rule) {
  return std::visit([](const auto& r) { return r.kWeightDecay; }, rule);
}

std::vector<UpdateRule> AllUpdateRules() {
  return RulesOf(std::make_index_sequence<std::variant_size_v<UpdateRule>>());
}

}  // namespace convoy
