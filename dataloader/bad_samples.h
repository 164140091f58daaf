// dataloader/bad_samples.h - samples that cannot be read or decoded, and how many of them are
// tolerated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/error.h"

namespace convoy {

enum class BadSamplePolicy {
  kSubstitute,  // another sample, a function of (seed, epoch, position)
  kDrop,        // weight 0
  kFail,        // Error (kData)
};

struct BadSample {
  std::string name, location, reason;
  int64_t epoch = 0, position = 0;
  std::string replaced_by;  // name of the substitute; empty if it was dropped
};

// The limit that tolerates any number of bad samples, even all.
inline constexpr int64_t kNoBadSampleLimit = INT64_MAX;

// Returns how many bad samples out of `images` are tolerated: `asked`, or max(8, 0.1 %). Always
// fewer than all, unless kNoBadSampleLimit was asked for.
int64_t BadSampleLimit(std::optional<int64_t> asked, int64_t images);

// Counts the positions of an epoch whose own sample is bad. A bad substitute counts for the sample
// that it replaced. `bad` is in the order of positions.
int64_t CountBadPositions(const std::vector<BadSample>& bad);

// Returns "" or " (2 bad ones left out)", for messages that say how many images something was made
// from.
std::string DescribeLeftOut(int64_t bad);

// Returns an error (kData) that says that `found` bad samples are more than `limit`, and names
// `last`. `where` is "" or " in epoch 3".
Error TooManyBadSamples(int64_t found, const std::string& where, int64_t limit,
                        const BadSample& last);

// The bad samples of one epoch, compared with a limit.
class BadSampleCount {
 public:
  explicit BadSampleCount(int64_t limit) : limit_(limit) {}

  // Adds `found` bad samples of `epoch`. The count of another epoch starts at 0.
  void Add(int64_t epoch, int64_t found);
  void Restart() { found_ = 0; }
  int64_t found() const { return found_; }
  bool TooMany() const { return found_ > limit_; }
  // Returns TooManyBadSamples() of the epoch.
  Error TooManyError(const BadSample& last) const;

 private:
  int64_t limit_, epoch_ = 0, found_ = 0;
};

}  // namespace convoy
