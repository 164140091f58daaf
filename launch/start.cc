#include "launch/start.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <vector>

#include "core/hash.h"
#include "core/settings_text.h"
#include "core/version.h"
#include "trainer/ranks/agreement.h"
#include "trainer/ranks/same_everywhere.h"

namespace convoy {
namespace {

// Reads the file of the running program: two builds of one version differ in it.
uint64_t ChecksumOfProgram() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  Hasher hasher;
  std::vector<char> part(1 << 20);
  while (file.read(part.data(), static_cast<std::streamsize>(part.size())) || file.gcount() > 0) {
    hasher.Add(part.data(), static_cast<size_t>(file.gcount()));
  }
  return hasher.Digest();
}

// "MPI 3.1, Open MPI 4.1.4": without the number of ranks.
std::string MpiOf(const World& world) {
  const std::string text = world.Describe();
  return text.substr(0, text.rfind(", "));
}

// Throws if any rank has a fault: all ranks get that of the lowest one, with its name unless every
// rank has one.
void RequireNoFault(World& world, const std::optional<Error>& fault) {
  const std::vector<int32_t> faults =
      GatherRows(world, int32_t{fault ? 1 : 0}, "asking for wrong command lines");
  const auto count = std::count(faults.begin(), faults.end(), 1);
  if (count == 0) return;
  RunTogether(world, [&] {
    if (!fault) return;
    if (count == world.size()) throw Error(*fault);
    throw Error(fault->exit_code(),
                fmt::format("rank {} ({}): {}", world.rank(),
                            world.hosts()[static_cast<size_t>(world.rank())], fault->message()),
                fault->hint());
  });
}

}  // namespace

std::string DescribeProgram(const World& world) {
  return SettingLine("version", kVersion) +
         SettingLine("build", fmt::format("{:016x}", ChecksumOfProgram())) +
         SettingLine("MPI library", MpiOf(world));
}

void RequireSameStart(World& world, const StartedAs& own) {
  RunTogether(world, [&] {
    RequireSameEverywhere(world, own.program, "the ranks run different programs",
                          "install the same build of convoy, and the same MPI, on every host");
  });
  RequireNoFault(world, own.fault);
  RunTogether(world, [&] {
    RequireSameEverywhere(
        world, own.command, "a rank was given other settings than rank 0",
        "start all ranks with one command line, and the same files on every host");
  });
}

}  // namespace convoy
