#include <algorithm>
#include <cstring>

#include "core/tensor/dtype.h"
#include "tests/comm/collective_checks.h"

namespace convoy {
namespace {

void SeveralRequestsInFlight(World& world) {
  Communicator& all = world.all();
  HostStream stream;
  for (const MemoryKind memory : kMemories) {
    std::vector<OwnedTensor> data;
    data.reserve(5);
    for (int k = 0; k < 5; ++k) {
      data.emplace_back(world, memory, DType::kFloat64, Shape{1000 * (k + 1)});
      for (int64_t i = 0; i < data.back().tensor.count(); ++i) {
        data.back().Set(i, Pattern(all.rank() + k, i));
      }
    }
    std::vector<Request> requests;
    requests.reserve(data.size());
    for (OwnedTensor& one : data) {
      requests.push_back(all.AllReduce(stream, one.tensor, ReduceOp::kSum, "one of several"));
    }
    // Waited for in the other order; twice is allowed, and the last one is left to its destructor.
    for (size_t k = requests.size(); k-- > 1;) {
      requests[k].Wait(stream);
      requests[k].Wait(stream);
      CONVOY_REQUIRE(requests[k].Done(), "a request is not done after Wait");
    }
    requests.clear();
    for (size_t k = 0; k < data.size(); ++k) {
      for (int64_t i = 0; i < data[k].tensor.count(); ++i) {
        double expected = 0;
        for (int r = 0; r < all.size(); ++r) expected += Pattern(r + static_cast<int>(k), i);
        CONVOY_REQUIRE(data[k].Get(i) == expected, fmt::format("request {}: element {}", k, i));
      }
    }
  }
}

void SplitOrdersByKeyAndSeparatesColours(World& world) {
  HostStream stream;
  const std::unique_ptr<Communicator> reversed =
      world.Split("reversed", 0, world.size() - world.rank());
  CONVOY_REQUIRE(reversed->size() == world.size(), "size of the reversed group");
  CONVOY_REQUIRE(reversed->rank() == world.size() - 1 - world.rank(), "rank in the reversed group");
  int64_t own = world.rank();
  std::vector<int64_t> ranks(static_cast<size_t>(world.size()));
  reversed
      ->AllGather(stream, {&own, DType::kInt64, {1}},
                  {ranks.data(), DType::kInt64, {world.size(), 1}}, "ranks")
      .Wait(stream);
  for (int r = 0; r < world.size(); ++r) {
    CONVOY_REQUIRE(ranks[static_cast<size_t>(r)] == world.size() - 1 - r,
                   "order of the reversed group");
  }
  // Equal keys keep the order of the world.
  const std::unique_ptr<Communicator> thirds = world.Split("thirds", world.rank() % 3, 7);
  CONVOY_REQUIRE(thirds->rank() == world.rank() / 3, "rank among the thirds");
  double sum = world.rank();
  thirds->AllReduce(stream, {&sum, DType::kFloat64, {1}}, ReduceOp::kSum, "sum of a third")
      .Wait(stream);
  double expected = 0;
  for (int r = world.rank() % 3; r < world.size(); r += 3) expected += r;
  CONVOY_REQUIRE(sum == expected, fmt::format("the third sums to {}, expected {}", sum, expected));
}

// Every kind once, the all-reduce twice. What an all-reduce brings to all ranks together is known
// whatever their shares are: each of N elements comes to p - 1 ranks twice.
void CountsWhatItCarries(World& world) {
  HostStream stream;
  const std::unique_ptr<Communicator> group = world.Split("counted", 0, world.rank());
  const int p = group->size(), rank = group->rank();
  constexpr int64_t kSum = 10, kBlock = 5;
  const auto make = [&](DType dtype, const Shape& shape) {
    return OwnedTensor(world, MemoryKind::kOrdinary, dtype, shape);
  };
  OwnedTensor sum = make(DType::kFloat32, {kSum});
  OwnedTensor block = make(DType::kBFloat16, {kBlock});
  OwnedTensor blocks = make(DType::kBFloat16, {p, kBlock});
  for (int i = 0; i < 2; ++i) {
    group->AllReduce(stream, sum.tensor, ReduceOp::kSum, "one").Wait(stream);
  }
  group->AllGather(stream, block.tensor, blocks.tensor, "one").Wait(stream);
  group->ReduceScatter(stream, blocks.tensor, block.tensor, "one").Wait(stream);
  group->Gather(stream, block.tensor, blocks.tensor, p - 1, "one").Wait(stream);
  group->Scatter(stream, blocks.tensor, block.tensor, 0, "one").Wait(stream);
  group->Broadcast(stream, block.tensor, 0, "one").Wait(stream);
  group->Broadcast(stream, block.tensor, 0, "another").Wait(stream);
  group->Barrier("one");

  const int64_t block_bytes = 2 * kBlock, gathered = (p - 1) * block_bytes;
  const int64_t share = kSum / p + (rank < kSum % p ? 1 : 0);
  const std::vector<TrafficRow> expected = {
      {"one", CollectiveKind::kAllReduce, 2, 2 * 4 * ((p - 1) * share + kSum - share)},
      {"one", CollectiveKind::kAllGather, 1, gathered},
      {"one", CollectiveKind::kReduceScatter, 1, gathered},
      {"one", CollectiveKind::kGather, 1, rank == p - 1 ? gathered : 0},
      {"one", CollectiveKind::kScatter, 1, rank == 0 ? 0 : block_bytes},
      {"one", CollectiveKind::kBroadcast, 1, rank == 0 ? 0 : block_bytes},
      {"another", CollectiveKind::kBroadcast, 1, rank == 0 ? 0 : block_bytes}};
  const std::vector<TrafficRow> found = group->traffic().rows();
  CONVOY_REQUIRE(found.size() == expected.size(), fmt::format("{} rows", found.size()));
  for (size_t i = 0; i < found.size(); ++i) {
    CONVOY_REQUIRE(
        found[i].what == expected[i].what && found[i].kind == expected[i].kind &&
            found[i].calls == expected[i].calls && found[i].bytes == expected[i].bytes,
        fmt::format("row {}: {} {}, {} calls, {} bytes; expected {}", i, found[i].what,
                    NameOf(found[i].kind), found[i].calls, found[i].bytes, expected[i].bytes));
  }
  int64_t of_all = found[0].bytes;
  group->AllReduce(stream, {&of_all, DType::kInt64, {1}}, ReduceOp::kSum, "bytes").Wait(stream);
  CONVOY_REQUIRE(of_all == 2 * 2 * (p - 1) * 4 * kSum, fmt::format("{} bytes in all", of_all));
  group->ResetTraffic();
  CONVOY_REQUIRE(group->traffic().rows().empty(), "rows after a reset");
}

void TwoGroupsInterleaved(World& world) {
  HostStream stream;
  const std::unique_ptr<Communicator> pairs = world.Split("pairs", world.rank() / 2, world.rank());
  const std::unique_ptr<Communicator> halves =
      world.Split("halves", world.rank() % 2, world.rank());
  for (const MemoryKind memory : kMemories) {
    OwnedTensor in_pairs(world, memory, DType::kFloat32, {5000});
    OwnedTensor in_halves(world, memory, DType::kFloat32, {7000});
    for (int round = 0; round < 10; ++round) {
      for (int64_t i = 0; i < 5000; ++i) in_pairs.Set(i, Pattern(world.rank(), i));
      for (int64_t i = 0; i < 7000; ++i) in_halves.Set(i, Pattern(world.rank(), i + 1));
      // The odd ranks start the two in the other order: groups do not wait for each other.
      Request first, second;
      const auto start_pairs = [&] {
        return pairs->AllReduce(stream, in_pairs.tensor, ReduceOp::kSum, "in pairs");
      };
      const auto start_halves = [&] {
        return halves->AllReduce(stream, in_halves.tensor, ReduceOp::kSum, "in halves");
      };
      first = world.rank() % 2 == 0 ? start_pairs() : start_halves();
      second = world.rank() % 2 == 0 ? start_halves() : start_pairs();
      first.Wait(stream);
      second.Wait(stream);
      for (int64_t i = 0; i < 5000; ++i) {
        double expected = 0;
        for (int r = 0; r < world.size(); ++r) {
          if (r / 2 == world.rank() / 2) expected += Pattern(r, i);
        }
        CONVOY_REQUIRE(in_pairs.Get(i) == expected, fmt::format("pairs: element {}", i));
      }
      for (int64_t i = 0; i < 7000; ++i) {
        double expected = 0;
        for (int r = world.rank() % 2; r < world.size(); r += 2) expected += Pattern(r, i + 1);
        CONVOY_REQUIRE(in_halves.Get(i) == expected, fmt::format("halves: element {}", i));
      }
    }
  }
}

// Magnitudes so different that every order of adding gives other bits.
void SameBitsEveryTimeAndEverywhere(World& world) {
  Communicator& all = world.all();
  HostStream stream;
  constexpr int64_t kCount = 70001;
  for (const MemoryKind memory : kMemories) {
    std::vector<uint32_t> first(kCount);
    for (int round = 0; round < 3; ++round) {
      OwnedTensor data(world, memory, DType::kFloat32, {kCount});
      for (int64_t i = 0; i < kCount; ++i) {
        data.Set(i, 1.0 / (1 + i + all.rank()) * ((i + all.rank()) % 3 == 0 ? 1e4 : -1));
      }
      all.AllReduce(stream, data.tensor, ReduceOp::kSum, "bits").Wait(stream);
      std::vector<uint32_t> bits(kCount);
      std::memcpy(bits.data(), data.tensor.data, kCount * sizeof(uint32_t));
      if (round == 0) first = bits;
      CONVOY_REQUIRE(bits == first, fmt::format("round {} gave other bits", round));
    }
    std::vector<uint32_t> of_root = first;
    all.Broadcast(stream, {of_root.data(), DType::kInt32, {kCount}}, 0, "bits of rank 0")
        .Wait(stream);
    CONVOY_REQUIRE(of_root == first, "the ranks hold different bits");
  }
}

// 257 lies between the bf16 values 256 and 258 and rounds to the even one, 256.
void BFloat16IsAddedInFloat32(World& world) {
  if (world.size() != 2) return;
  HostStream stream;
  for (const MemoryKind memory : kMemories) {
    OwnedTensor data(world, memory, DType::kBFloat16, {2});
    data.Set(0, world.rank() == 0 ? 256 : 1);
    data.Set(1, world.rank() == 0 ? 256 : 3);
    world.all().AllReduce(stream, data.tensor, ReduceOp::kSum, "bf16").Wait(stream);
    CONVOY_REQUIRE(data.Get(0) == 256, fmt::format("256 + 1 = {}", data.Get(0)));
    CONVOY_REQUIRE(data.Get(1) == 260, fmt::format("256 + 3 = {}", data.Get(1)));
  }
}

void HostsAndPlacesAreKnown(World& world) {
  CONVOY_REQUIRE(static_cast<int>(world.hosts().size()) == world.size(), "hosts");
  for (const std::string& host : world.hosts()) CONVOY_REQUIRE(!host.empty(), "a host has no name");
  const std::string& own_host = world.hosts()[static_cast<size_t>(world.rank())];
  const auto is_here = [&](int r) { return world.hosts()[static_cast<size_t>(r)] == own_host; };
  int here = 0, before = 0;
  for (int r = 0; r < world.size(); ++r) {
    here += is_here(r) ? 1 : 0;
    before += is_here(r) && r < world.rank() ? 1 : 0;
  }
  CONVOY_REQUIRE(world.local_size() == here, "number of ranks on this host");
  CONVOY_REQUIRE(world.local_rank() == before, "place on this host");
  world.SetStep(100 + world.rank());
  world.all().Barrier("steps are set");
  const std::string progress = world.DescribeProgress();
  for (int r = 0; r < world.size(); ++r) {
    const std::string seen = is_here(r) ? fmt::format("step {}", 100 + r) : "not seen";
    const std::string rank =
        fmt::format("rank {} ({}): {}", r, world.hosts()[static_cast<size_t>(r)], seen);
    CONVOY_REQUIRE(progress.find(rank) != std::string::npos,
                   fmt::format("'{}' is not in: {}", rank, progress));
  }
  world.all().Barrier("steps are read");
}

void SharedMemoryIsZeroedAndGivenBack(World& world) {
  HostStream stream;
  // More than the table of a rank holds at a time.
  for (int round = 0; round < 200; ++round) {
    OwnedTensor data(world, MemoryKind::kShared, DType::kFloat64, {1024});
    CONVOY_REQUIRE(data.Get(0) == 0 && data.Get(1023) == 0, "shared memory is not zeroed");
    CONVOY_REQUIRE(reinterpret_cast<uintptr_t>(data.tensor.data) % kAlignmentBytes == 0,
                   "alignment");
    data.Set(5, world.rank() + round);
    world.all().AllReduce(stream, data.tensor, ReduceOp::kMax, "maximum").Wait(stream);
    CONVOY_REQUIRE(data.Get(5) == world.size() - 1 + round, "maximum in fresh memory");
  }
}

}  // namespace

OwnedTensor::OwnedTensor(World& world, MemoryKind kind, DType dtype, const Shape& shape) {
  const bool shared =
      kind == MemoryKind::kShared || (kind == MemoryKind::kMixed && world.rank() % 2 == 0);
  // A page at least: smaller blocks are not shared.
  const int64_t bytes = std::max<int64_t>(4096, shape.count() * SizeOf(dtype));
  buffer = shared ? world.AllocateShared(bytes) : AllocateHost(bytes);
  tensor = ViewOf(buffer, dtype, shape);
}

double OwnedTensor::Get(int64_t i) const {
  switch (tensor.dtype) {
    case DType::kFloat32:
      return tensor.As<float>()[i];
    case DType::kFloat64:
      return tensor.As<double>()[i];
    case DType::kBFloat16:
      return static_cast<float>(tensor.As<BFloat16>()[i]);
    case DType::kUInt8:
      return tensor.As<uint8_t>()[i];
    case DType::kInt32:
      return tensor.As<int32_t>()[i];
    case DType::kInt64:
      return static_cast<double>(tensor.As<int64_t>()[i]);
  }
  return 0;
}

void OwnedTensor::Set(int64_t i, double value) {
  switch (tensor.dtype) {
    case DType::kFloat32:
      tensor.As<float>()[i] = static_cast<float>(value);
      break;
    case DType::kFloat64:
      tensor.As<double>()[i] = value;
      break;
    case DType::kBFloat16:
      tensor.As<BFloat16>()[i] = BFloat16(static_cast<float>(value));
      break;
    case DType::kUInt8:
      tensor.As<uint8_t>()[i] = static_cast<uint8_t>(value);
      break;
    case DType::kInt32:
      tensor.As<int32_t>()[i] = static_cast<int32_t>(value);
      break;
    case DType::kInt64:
      tensor.As<int64_t>()[i] = static_cast<int64_t>(value);
      break;
  }
}

const std::vector<CollectiveCheck>& GroupChecks() {
  static const std::vector<CollectiveCheck> checks = {
      {"SeveralRequestsInFlight", SeveralRequestsInFlight},
      {"SplitOrdersByKeyAndSeparatesColours", SplitOrdersByKeyAndSeparatesColours},
      {"CountsWhatItCarries", CountsWhatItCarries},
      {"TwoGroupsInterleaved", TwoGroupsInterleaved},
      {"SameBitsEveryTimeAndEverywhere", SameBitsEveryTimeAndEverywhere},
      {"BFloat16IsAddedInFloat32", BFloat16IsAddedInFloat32},
      {"HostsAndPlacesAreKnown", HostsAndPlacesAreKnown},
      {"SharedMemoryIsZeroedAndGivenBack", SharedMemoryIsZeroedAndGivenBack},
  };
  return checks;
}

}  // namespace convoy
