#include "core/random.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace convoy {

RandomWords Philox(RandomWords counter, std::array<uint32_t, 2> key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

RandomWords RandomBlock(const RandomKey& key, uint32_t block) {
  CONVOY_CHECK(key.stream < (1u << 24) && key.epoch < (1u << 20) && key.position < (1ull << 44),
               "stream {}, epoch {}, position {}", key.stream, key.epoch, key.position);
  const RandomWords counter = {block, static_cast<uint32_t>(key.position),
                               (key.epoch << 12) | static_cast<uint32_t>(key.position >> 32),
                               (static_cast<uint32_t>(key.purpose) << 24) | key.stream};
  return Philox(counter, {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)});
}

std::array<double, 2> ToNormals(const RandomWords& words) {
  // 1 - u lies in (0, 1], so the logarithm is finite.
  const double radius = std::sqrt(-2.0 * std::log(1.0 - ToUniform(words[0], words[1])));
  const double angle = 2.0 * std::numbers::pi * ToUniform(words[2], words[3]);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

}  // namespace convoy
