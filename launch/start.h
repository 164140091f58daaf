// launch/start.h - whether the ranks were started alike, asked before anything else is done.
#pragma once

#include <optional>
#include <string>

#include "comm/world.h"
#include "core/error.h"

namespace convoy {

// What this rank was started as. Lines "name = value".
struct StartedAs {
  std::string program;              // its version, build and MPI
  std::string command;              // the subcommand with its settings
  std::optional<Error> fault = {};  // the rank cannot even begin: its command line is wrong
};

// The running program: its version, a checksum of its file, and the MPI library of `world`.
std::string DescribeProgram(const World& world);

// Throws an AgreedError on every rank if any rank has a fault, runs another program or was given
// another command; it names the ranks and what differs. Collective over the world.
void RequireSameStart(World& world, const StartedAs& own);

}  // namespace convoy
