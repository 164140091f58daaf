#include "dataloader/loading/permutation.h"

#include <bit>

#include "core/error.h"
#include "core/random.h"

namespace convoy {
namespace {

// Four rounds pass statistical tests on large domains; small ones need more.
constexpr uint32_t kRounds = 8;

}  // namespace

int64_t PermutedSample(uint64_t seed, int64_t epoch, int64_t size, int64_t position) {
  CONVOY_CHECK(size >= 1 && size < (int64_t{1} << 44) && position >= 0 && position < size,
               "position {} of {}", position, size);
  if (size == 1) return 0;
  const auto bits = static_cast<int>(std::bit_width(static_cast<uint64_t>(size - 1)));
  const int half = (bits + 1) / 2;
  const uint64_t mask = (uint64_t{1} << half) - 1;
  auto value = static_cast<uint64_t>(position);
  do {
    uint64_t left = value >> half, right = value & mask;
    for (uint32_t round = 0; round < kRounds; ++round) {
      const RandomWords words = RandomBlock({.seed = seed,
                                             .purpose = Purpose::kOrder,
                                             .stream = round,
                                             .epoch = static_cast<uint32_t>(epoch),
                                             .position = right});
      const uint64_t mixed = left ^ (words[0] & mask);
      left = right;
      right = mixed;
    }
    value = left << half | right;
  } while (value >= static_cast<uint64_t>(size));
  return static_cast<int64_t>(value);
}

int64_t SubstituteSample(uint64_t seed, int64_t epoch, int64_t size, int64_t position, int draw) {
  const RandomWords words = RandomBlock({.seed = seed,
                                         .purpose = Purpose::kSubstitute,
                                         .epoch = static_cast<uint32_t>(epoch),
                                         .position = static_cast<uint64_t>(position)},
                                        static_cast<uint32_t>(draw));
  const double place = ToUniform(words[0], words[1]) * static_cast<double>(size);
  return static_cast<int64_t>(place);
}

}  // namespace convoy
