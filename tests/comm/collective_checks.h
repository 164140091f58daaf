// tests/comm/collective_checks.h - what every world must do. Run by the tests over threads and by
// mpi_checks over MPI.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "comm/world.h"

// Throws when the condition is false. The message is made only then.
#define CONVOY_REQUIRE(condition, message)               \
  do {                                                   \
    if (!(condition)) throw std::runtime_error(message); \
  } while (false)

namespace convoy {

struct CollectiveCheck {
  std::string name;
  void (*run)(World& world);  // called by all ranks; throws if the world is wrong
};

// Every collective, type and size.
const std::vector<CollectiveCheck>& CollectiveChecks();
// Requests, groups, places, memory.
const std::vector<CollectiveCheck>& GroupChecks();

// Ordinary memory, and what World::AllocateShared gives: MPI worlds move the two differently.
enum class MemoryKind { kOrdinary, kShared, kMixed };
inline constexpr MemoryKind kMemories[] = {MemoryKind::kOrdinary, MemoryKind::kShared,
                                           MemoryKind::kMixed};

// Returns a small whole number for element i of rank r: sums of a few of them are exact in every
// type.
inline int Pattern(int rank, int64_t i) { return static_cast<int>((i * 3 + rank * 5) % 13); }

// A zeroed tensor and its memory. kMixed: shared on the even ranks only.
struct OwnedTensor {
  OwnedTensor(World& world, MemoryKind kind, DType dtype, const Shape& shape);

  // Element i as a number, for every type.
  double Get(int64_t i) const;
  void Set(int64_t i, double value);

  Buffer buffer;
  Tensor tensor;
};

}  // namespace convoy
