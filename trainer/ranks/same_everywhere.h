// trainer/ranks/same_everywhere.h - what every rank must have alike: programs, command lines,
// versions. Ranks that differ are named with what differs.
#pragma once

#include <string>
#include <vector>

#include "comm/world.h"

namespace convoy {

// Compares what the ranks report, SettingLines by rank, with what rank 0 does, and says
// what differs: "rank 3 (node7): lr 0.1 (rank 0: 0.01), seed 4 (rank 0: 0); 2 ranks differ". A name
// that differs on several ranks is told of the first. Empty if all reports are equal.
std::string DescribeDifferences(const std::vector<std::string>& hosts,
                                const std::vector<std::string>& reports);

// Throws (kUsage, "WHAT: DIFFERENCES") on every rank unless all ranks give the same `report`, which
// consists of SettingLines. The reports travel only if their checksums differ. Collective over the
// world; all ranks pass the same `what` and `hint`.
void RequireSameEverywhere(World& world, const std::string& report, const std::string& what,
                           const std::string& hint);

}  // namespace convoy
