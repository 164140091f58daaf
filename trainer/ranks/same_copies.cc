#include "trainer/ranks/same_copies.h"

#include <fmt/format.h>

#include <vector>

#include "core/text.h"
#include "dataloader/fingerprint.h"
#include "trainer/ranks/agreement.h"

namespace convoy {
namespace {

constexpr const char* kWhat = "comparing data sets";

struct Copy {
  Fingerprint fingerprint;
  int32_t compares = 0, padding = 0;
};

// The most ranks that a message names.
constexpr int kMostNamed = 8;

// The first line of `own`, of rank `rank`, that is another in `of_rank_0`.
std::string FirstDifference(const std::string& own, size_t rank, const std::string& of_rank_0) {
  const std::vector<std::string> own_lines = Split(own, '\n'), other_lines = Split(of_rank_0, '\n');
  for (size_t i = 0; i < own_lines.size() && i < other_lines.size(); ++i) {
    if (own_lines[i] != other_lines[i]) {
      return fmt::format("rank 0 has {}, rank {} {}", other_lines[i], rank, own_lines[i]);
    }
  }
  return "of images that were not looked at one by one";
}

}  // namespace

void RequireSameCopies(const Dataset& dataset, const std::string& location, bool compares,
                       World& world) {
  if (world.size() == 1) return;
  Copy own;
  RunTogether(world, [&] {
    if (!compares) return;
    own.fingerprint = FingerprintOf(dataset);
    own.compares = 1;
  });
  const std::vector<Copy> copies = GatherRows(world, own, kWhat);
  const auto differs = [&copies](size_t rank) {
    return copies[rank].compares != 0 && copies[rank].fingerprint != copies[0].fingerprint;
  };
  size_t other = 0;
  std::string counts;
  int named = 0, left = 0;
  for (size_t rank = 0; rank < copies.size(); ++rank) {
    if (other == 0 && differs(rank)) other = rank;
    if (rank > 0 && !differs(rank)) continue;
    if (++named > kMostNamed) {
      ++left;
    } else {
      counts += fmt::format("{}rank {} ({}) {} images", counts.empty() ? "" : ", ", rank,
                            world.hosts()[rank], FormatCount(copies[rank].fingerprint.images));
    }
  }
  if (other == 0) return;
  if (left > 0) counts += fmt::format(", and {} more", FormatCount(left, "rank"));
  // All ranks know of it, and rank `other` finds an example in what rank 0 has.
  const std::string of_rank_0 = BroadcastText(
      world, world.rank() == 0 ? DescribeSampledImages(dataset) : std::string(), 0, kWhat);
  RunTogether(world, [&] {
    if (world.rank() != static_cast<int>(other)) return;
    std::string message = fmt::format("the ranks' copies of {} differ: {}", location, counts);
    if (copies[other].fingerprint.images == copies[0].fingerprint.images) {
      message += fmt::format("; equal counts, but other {}: {}",
                             copies[other].fingerprint.names != copies[0].fingerprint.names
                                 ? "names or labels"
                                 : "contents",
                             FirstDifference(DescribeSampledImages(dataset), other, of_rank_0));
    }
    throw Error(ExitCode::kData, message, "give every host the same copy");
  });
}

}  // namespace convoy
