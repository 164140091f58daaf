#include "core/random.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace convoy {
namespace {

using namespace philox;

void RequireLimits(const RandomKey& key) {
  CONVOY_CHECK(key.stream < (1u << 24) && key.epoch < (1u << 20) && key.position < (1ull << 44),
               "stream {}, epoch {}, position {}", key.stream, key.epoch, key.position);
}

}  // namespace

RandomWords RandomBlock(const RandomKey& key, uint32_t block) {
  RequireLimits(key);
  const RandomOrigin origin = OriginOf(key, block);
  return Philox(origin.counter, origin.key);
}

// Philox once more, in separate variables and unrolled: so the compiler runs eight blocks side by
// side.
void RandomBlocks(const RandomKey& key, uint32_t first_block, int64_t count, uint32_t* words) {
  RequireLimits(key);
  const RandomOrigin origin = OriginOf(key);
  for (int64_t i = 0; i < count; ++i) {
    uint32_t a = first_block + static_cast<uint32_t>(i);
    uint32_t b = origin.counter[1], c = origin.counter[2], d = origin.counter[3];
    uint32_t key0 = origin.key[0], key1 = origin.key[1];
#pragma GCC unroll 10
    for (int round = 0; round < kRounds; ++round) {
      const uint64_t product0 = kMultiplier0 * a;
      const uint64_t product1 = kMultiplier1 * c;
      a = static_cast<uint32_t>(product1 >> 32) ^ b ^ key0;
      b = static_cast<uint32_t>(product1);
      c = static_cast<uint32_t>(product0 >> 32) ^ d ^ key1;
      d = static_cast<uint32_t>(product0);
      key0 += kWeyl0;
      key1 += kWeyl1;
    }
    words[4 * i] = a;
    words[4 * i + 1] = b;
    words[4 * i + 2] = c;
    words[4 * i + 3] = d;
  }
}

std::array<double, 2> ToNormals(const RandomWords& words) {
  // 1 - u lies in (0, 1], so the logarithm is finite.
  const double radius = std::sqrt(-2.0 * std::log(1.0 - ToUniform(words[0], words[1])));
  const double angle = 2.0 * std::numbers::pi * ToUniform(words[2], words[3]);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

}  // namespace convoy
