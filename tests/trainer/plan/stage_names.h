// tests/trainer/plan/stage_names.h - the stages of a plan, for comparison.
#pragma once

#include <string>
#include <vector>

#include "trainer/plan/plan.h"

namespace convoy {

// Returns "conv1..pool2" for a segment, "<pool2 to conv3>" for an exchange.
inline std::vector<std::string> StageNames(const RankPlan& plan) {
  std::vector<std::string> names;
  for (const Stage& stage : plan.stages) {
    if (const auto* exchange = std::get_if<Exchange>(&stage)) {
      names.push_back("<" + exchange->name + ">");
    } else {
      const auto& items = std::get<SegmentPlan>(stage).spec.items;
      names.push_back(items.front().layer.name + ".." + items.back().layer.name);
    }
  }
  return names;
}

}  // namespace convoy
