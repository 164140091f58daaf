// core/random.h - randomness as a function, not a state.
//
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC
// 2011) maps a key and a counter to four random words. Convoy's key is the seed, and its counter
// says what the number is for: purpose, stream (which layer, which parameter), epoch, global
// position of the sample in the epoch, and element of the uncut tensor. So no draw depends on the
// number of threads, ranks, cuts or restarts.
#pragma once

#include <array>
#include <cstdint>

namespace convoy {

using RandomWords = std::array<uint32_t, 4>;

namespace philox {
inline constexpr int kRounds = 10;
inline constexpr uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
inline constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
}  // namespace philox

// The raw generator. Like all that is constexpr here, it runs in kernels too.
constexpr RandomWords Philox(RandomWords counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < philox::kRounds; ++round) {
    const uint64_t product0 = philox::kMultiplier0 * counter[0];
    const uint64_t product1 = philox::kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += philox::kWeyl0;
    key[1] += philox::kWeyl1;
  }
  return counter;
}

enum class Purpose : uint8_t {
  kWeight = 1,
  kOrder = 2,
  kCrop = 3,
  kMirror = 4,
  kColour = 5,
  kDropout = 6,
  kSubstitute = 7,
  kSynthetic = 8,
  kJitter = 9,
};

// What a draw is for. Limits: stream < 2^24, epoch < 2^20, position < 2^44, block < 2^32.
struct RandomKey {
  uint64_t seed = 0;
  Purpose purpose = Purpose::kWeight;
  uint32_t stream = 0;
  uint32_t epoch = 0;
  uint64_t position = 0;
};

// Return Philox's key for `key`, and its counter for block `block`. They do not check the limits.
struct RandomOrigin {
  RandomWords counter;
  std::array<uint32_t, 2> key;
};
constexpr RandomOrigin OriginOf(const RandomKey& key, uint32_t block = 0) {
  return {.counter = {block, static_cast<uint32_t>(key.position),
                      (key.epoch << 12) | static_cast<uint32_t>(key.position >> 32),
                      (static_cast<uint32_t>(key.purpose) << 24) | key.stream},
          .key = {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)}};
}

// Words 4*block .. 4*block+3 of the sequence that `key` names.
RandomWords RandomBlock(const RandomKey& key, uint32_t block = 0);
// The same of `count` blocks in a row, four words each; several times as fast.
void RandomBlocks(const RandomKey& key, uint32_t first_block, int64_t count, uint32_t* words);

// [0, 1) with 24 random bits, exactly representable in float.
constexpr float ToUniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }
// [0, 1) with 53 random bits.
constexpr double ToUniform(uint32_t high, uint32_t low) {
  const uint64_t word = (static_cast<uint64_t>(high) << 32) | low;
  return static_cast<double>(word >> 11) * 0x1p-53;
}
// 0 .. bound - 1, bound >= 1, by multiplication (bias below bound / 2^32).
constexpr uint32_t ToBelow(uint32_t word, uint32_t bound) {
  return static_cast<uint32_t>((static_cast<uint64_t>(word) * bound) >> 32);
}
// Two independent standard normal values (Box-Muller) from one block.
std::array<double, 2> ToNormals(const RandomWords& words);

}  // namespace convoy
