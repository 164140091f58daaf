#include "trainer/ranks/same_slices.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/hash.h"
#include "core/text.h"
#include "trainer/ranks/agreement.h"

namespace convoy {
namespace {

constexpr const char* kWhat = "comparing the ranks' weights";
constexpr int64_t kPieceBytes = 8 << 20;
// The most ranks that a message names.
constexpr size_t kMostNamed = 8;

// A tensor of the state, by what is the same on every rank.
struct ComparedTensor {
  std::string name;  // "momentum.conv1.weight"
  Axes copies;       // the ranks along these hold the same rows
  Tensor local;      // empty if this rank has no row
};

// Returns the state of a parameter, which this rank has whole.
Tensor StateOf(const RankPlan& plan, const Tensor& state, const Tensor& parameter, int64_t offset) {
  for (const OwnedRange& own : OwnedRangesOf(plan)) {
    if (offset < own.begin || offset >= own.begin + own.count) continue;
    return state.Range(own.state_begin + offset - own.begin, parameter.count());
  }
  throw Error(ExitCode::kDefect, fmt::format("no state of the parameter at {}", offset));
}

// Returns the tensors that more than one rank holds; the same list on every rank.
std::vector<ComparedTensor> ComparedTensorsOf(const RankPlan& plan, const ParameterStore& store) {
  // Rank 0 has rows of every parameter and buffer.
  const RankPlan first = MakePlan(plan.network, plan.grid, 0, plan.options);
  const ArenaLayout& layout = store.parameter_layout();
  std::vector<ComparedTensor> tensors;
  for (const ParameterSlice& slice : first.parameters) {
    if (plan.grid.RanksAlong(slice.copies) == 1) continue;
    const std::string& name = slice.uncut.name;
    const bool is_here = layout.Has(name);
    const bool is_whole = !plan.options.shards_update || slice.is_small();
    const Tensor& arena = is_whole ? store.parameters() : store.compute();
    const Tensor local = is_here ? layout.View(arena, name) : Tensor();
    tensors.push_back({name, slice.copies, local});
    for (size_t i = 0; is_whole && i < store.states().size(); ++i) {
      tensors.push_back(
          {store.state_names()[i] + "." + name, slice.copies,
           is_here ? StateOf(plan, store.states()[i], local, layout.Find(name).offset) : Tensor()});
    }
  }
  for (const BufferSlice& slice : first.buffers) {
    if (plan.grid.RanksAlong(slice.copies) == 1) continue;
    const std::string& name = slice.uncut.name;
    const bool is_here = store.buffer_layout().Has(name);
    tensors.push_back({name, slice.copies,
                       is_here ? store.buffer_layout().View(store.buffers(), name) : Tensor()});
  }
  return tensors;
}

uint64_t HashOf(const Tensor& tensor, Engine& engine, const Buffer& piece) {
  Hasher hasher;
  const int64_t piece_elements = kPieceBytes / SizeOf(tensor.dtype);
  for (int64_t first = 0; first < tensor.count(); first += piece_elements) {
    const Tensor part = tensor.Range(first, std::min(piece_elements, tensor.count() - first));
    engine.backend().CopyToHost(engine.stream(), part, piece.data());
    hasher.Add(piece.data(), static_cast<size_t>(part.bytes()));
  }
  return hasher.Digest();
}

// Returns the hashes of all ranks, by rank and tensor; 0 if a rank has no row.
std::vector<std::vector<uint64_t>> GatherHashes(const std::vector<ComparedTensor>& tensors,
                                                Engine& engine) {
  const Buffer piece = engine.backend().AllocateStaging(kPieceBytes);
  std::vector<uint64_t> own;
  for (const ComparedTensor& tensor : tensors) {
    own.push_back(tensor.local ? HashOf(tensor.local, engine, piece) : 0);
  }
  World& world = engine.world();
  std::vector<uint64_t> all(own.size() * static_cast<size_t>(world.size()));
  const Shape row{std::ssize(own) * int64_t{sizeof(uint64_t)}};
  HostStream stream;
  world.all()
      .AllGather(stream, {own.data(), DType::kUInt8, row},
                 {all.data(), DType::kUInt8, row.Prepend(world.size())}, kWhat)
      .Wait(stream);
  std::vector<std::vector<uint64_t>> hashes;
  for (auto begin = all.begin(); begin != all.end(); begin += std::ssize(own)) {
    hashes.emplace_back(begin, begin + std::ssize(own));
  }
  return hashes;
}

// Ranks that hold the same rows of a tensor, and do not agree.
struct Disagreement {
  std::vector<int> most, odd;
  bool has_majority = false;  // of `most` over all others
};

// Returns the groups of ranks along `copies` whose hashes are not all the same.
std::vector<Disagreement> DisagreementsOf(const GridShape& grid, Axes copies,
                                          const std::vector<uint64_t>& hash_of_rank) {
  std::map<int, std::vector<int>> groups;
  for (int rank = 0; rank < grid.ranks(); ++rank) {
    groups[grid.GroupOf(copies, grid.PlaceOf(rank))].push_back(rank);
  }
  std::vector<Disagreement> disagreements;
  for (const auto& [group, ranks] : groups) {
    const auto hash_of = [&](int rank) { return hash_of_rank[static_cast<size_t>(rank)]; };
    std::map<uint64_t, size_t> ranks_with;
    for (int rank : ranks) ++ranks_with[hash_of(rank)];
    if (ranks_with.size() == 1) continue;
    // In a draw, that of the first rank.
    uint64_t most = hash_of(ranks.front());
    for (const auto& [hash, count] : ranks_with) {
      if (count > ranks_with[most]) most = hash;
    }
    Disagreement found{.most = {}, .odd = {}, .has_majority = 2 * ranks_with[most] > ranks.size()};
    for (int rank : ranks) (hash_of(rank) == most ? found.most : found.odd).push_back(rank);
    disagreements.push_back(std::move(found));
  }
  return disagreements;
}

// Returns "rank 3 (node7)", "ranks 1 (node1), 2 (node1) and 40 more".
std::string Named(const std::vector<int>& ranks, const std::vector<std::string>& hosts) {
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(ranks.size(), kMostNamed); ++i) {
    names.push_back(fmt::format("{} ({})", ranks[i], hosts[static_cast<size_t>(ranks[i])]));
  }
  return fmt::format("{} {}{}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(names, ", "),
                     ranks.size() > kMostNamed
                         ? fmt::format(" and {} more", ranks.size() - kMostNamed)
                         : std::string());
}

}  // namespace

void RequireSameSlices(Engine& engine, int64_t step) {
  const std::vector<ComparedTensor> tensors = ComparedTensorsOf(engine.plan(), engine.store());
  if (tensors.empty()) return;
  const std::vector<std::vector<uint64_t>> hashes = GatherHashes(tensors, engine);
  std::optional<Disagreement> first;
  std::string tensor;  // of `first`
  int more = 0;        // tensors
  for (size_t i = 0; i < tensors.size(); ++i) {
    std::vector<uint64_t> hash_of_rank;
    for (const std::vector<uint64_t>& of_rank : hashes) hash_of_rank.push_back(of_rank[i]);
    const auto found = DisagreementsOf(engine.grid().shape(), tensors[i].copies, hash_of_rank);
    if (found.empty()) continue;
    if (first) {
      ++more;
    } else {
      first = found.front();
      tensor = tensors[i].name;
    }
  }
  if (!first) return;
  const std::vector<std::string>& hosts = engine.world().hosts();
  // Every rank has found the same.
  throw AgreedError(
      Error(ExitCode::kNumbers,
            fmt::format("step {}: {} of {} {} from that of {}{}", step, tensor,
                        Named(first->odd, hosts), first->odd.size() == 1 ? "differs" : "differ",
                        Named(first->most, hosts),
                        more > 0 ? fmt::format(", and so do {}", FormatCount(more, "other tensor"))
                                 : std::string()),
            first->has_majority
                ? "ranks that hold the same weights update them alike: look for a fault of that "
                  "host's memory or device; without it, go on from the last checkpoint"
                : "ranks that hold the same weights update them alike, and there is no majority "
                  "that says which are right: look for a fault of either host's memory or device, "
                  "and go on from the last checkpoint"),
      0);
}

}  // namespace convoy
