#include "core/random.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace convoy {
namespace {

constexpr int kRounds = 10;
constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;

// The counter of block 0, and Philox's key.
struct Origin {
  RandomWords counter;
  std::array<uint32_t, 2> key;
};

Origin OriginOf(const RandomKey& key) {
  CONVOY_CHECK(key.stream < (1u << 24) && key.epoch < (1u << 20) && key.position < (1ull << 44),
               "stream {}, epoch {}, position {}", key.stream, key.epoch, key.position);
  return {.counter = {0, static_cast<uint32_t>(key.position),
                      (key.epoch << 12) | static_cast<uint32_t>(key.position >> 32),
                      (static_cast<uint32_t>(key.purpose) << 24) | key.stream},
          .key = {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)}};
}

}  // namespace

RandomWords Philox(RandomWords counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < kRounds; ++round) {
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
  Origin origin = OriginOf(key);
  origin.counter[0] = block;
  return Philox(origin.counter, origin.key);
}

// Philox once more, in separate variables and unrolled: so the compiler runs eight blocks side by
// side.
void RandomBlocks(const RandomKey& key, uint32_t first_block, int64_t count, uint32_t* words) {
  const Origin origin = OriginOf(key);
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
