#include "tests/comm/collective_checks.h"

#include <algorithm>

#include "core/tensor/dtype.h"

namespace convoy {
namespace {

constexpr DType kReducible[] = {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kInt32,
                                DType::kInt64};
constexpr DType kAll[] = {DType::kFloat32, DType::kFloat64, DType::kBFloat16,
                          DType::kUInt8,   DType::kInt32,   DType::kInt64};
// None, one, odd, less than ranks, around a page and a block of the reduction.
constexpr int64_t kCounts[] = {0, 1, 3, 17, 2048, 4099};

std::string Where(const char* what, DType dtype, int64_t count, int64_t i, double found,
                  double expected) {
  return fmt::format("{}, {} x {}: element {} is {}, expected {}", what, NameOf(dtype), count, i,
                     found, expected);
}

// Runs `check(dtype, memory, count)` for every combination.
template <size_t n, typename Check>
void ForEachCase(const DType (&dtypes)[n], Check check) {
  for (const DType dtype : dtypes) {
    for (const MemoryKind memory : kMemories) {
      for (const int64_t count : kCounts) check(dtype, memory, count);
    }
  }
}

int Combine(ReduceOp op, int a, int b) {
  switch (op) {
    case ReduceOp::kSum:
      return a + b;
    case ReduceOp::kMax:
      return std::max(a, b);
    case ReduceOp::kMin:
      return std::min(a, b);
  }
  return 0;
}

int Combined(ReduceOp op, int ranks, int64_t i) {
  int value = Pattern(0, i);
  for (int r = 1; r < ranks; ++r) value = Combine(op, value, Pattern(r, i));
  return value;
}

void AllReduceOfEveryType(World& world) {
  Communicator& all = world.all();
  HostStream stream;
  for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
    ForEachCase(kReducible, [&](DType dtype, MemoryKind memory, int64_t count) {
      OwnedTensor data(world, memory, dtype, {count});
      for (int64_t i = 0; i < count; ++i) data.Set(i, Pattern(all.rank(), i));
      all.AllReduce(stream, data.tensor, op, "all-reduce").Wait(stream);
      for (int64_t i = 0; i < count; ++i) {
        const double expected = Combined(op, all.size(), i);
        CONVOY_REQUIRE(data.Get(i) == expected,
                       Where("all-reduce", dtype, count, i, data.Get(i), expected));
      }
    });
  }
}

void AllGatherOfEveryType(World& world) {
  Communicator& all = world.all();
  HostStream stream;
  ForEachCase(kAll, [&](DType dtype, MemoryKind memory, int64_t count) {
    for (const bool in_place : {false, true}) {
      OwnedTensor receive(world, memory, dtype, {all.size(), count});
      OwnedTensor separate(world, memory, dtype, {count});
      const Tensor own_block = receive.tensor.Rows(all.rank(), 1).Reshape({count});
      for (int64_t i = 0; i < count; ++i) {
        if (in_place) receive.Set(all.rank() * count + i, Pattern(all.rank(), i));
        separate.Set(i, Pattern(all.rank(), i));
      }
      all.AllGather(stream, in_place ? own_block : separate.tensor, receive.tensor, "all-gather")
          .Wait(stream);
      for (int64_t i = 0; i < count * all.size(); ++i) {
        const double expected = Pattern(static_cast<int>(i / count), i % count);
        CONVOY_REQUIRE(receive.Get(i) == expected,
                       Where("all-gather", dtype, count, i, receive.Get(i), expected));
      }
    }
  });
}

void ReduceScatterOfEveryType(World& world) {
  Communicator& all = world.all();
  HostStream stream;
  ForEachCase(kReducible, [&](DType dtype, MemoryKind memory, int64_t count) {
    for (const bool in_place : {false, true}) {
      OwnedTensor send(world, memory, dtype, {all.size(), count});
      OwnedTensor separate(world, memory, dtype, {count});
      for (int64_t i = 0; i < count * all.size(); ++i) send.Set(i, Pattern(all.rank(), i));
      const int64_t own = all.rank() * count;
      all.ReduceScatter(stream, send.tensor,
                        in_place ? send.tensor.Range(own, count) : separate.tensor,
                        "reduce-scatter")
          .Wait(stream);
      for (int64_t i = 0; i < count * all.size(); ++i) {
        const bool is_own = i >= own && i < own + count;
        const double expected =
            is_own ? Combined(ReduceOp::kSum, all.size(), i) : Pattern(all.rank(), i);
        const double actual = is_own && !in_place ? separate.Get(i - own) : send.Get(i);
        CONVOY_REQUIRE(actual == expected,
                       Where("reduce-scatter", dtype, count, i, actual, expected));
      }
    }
  });
}

// How the two lie in memory relative to each other must not matter: here the blocks begin just
// at the place that an all-gather would give this rank's own block.
void ReduceScatterBesideItsResult(World& world) {
  Communicator& all = world.all();
  HostStream stream;
  constexpr int64_t kBlock = 3000;
  for (const MemoryKind memory : kMemories) {
    const int64_t gap = std::max(1, all.rank()) * kBlock;
    OwnedTensor both(world, memory, DType::kFloat32, {gap + all.size() * kBlock});
    const Tensor receive = both.tensor.Range(0, kBlock);
    const Tensor send = both.tensor.Range(gap, all.size() * kBlock);
    for (int64_t i = 0; i < send.count(); ++i) both.Set(gap + i, Pattern(all.rank(), i));
    all.ReduceScatter(stream, send, receive, "reduce-scatter").Wait(stream);
    for (int64_t i = 0; i < kBlock; ++i) {
      const double expected = Combined(ReduceOp::kSum, all.size(), all.rank() * kBlock + i);
      CONVOY_REQUIRE(both.Get(i) == expected,
                     Where("reduce-scatter", DType::kFloat32, kBlock, i, both.Get(i), expected));
    }
  }
}

void GatherToEveryRoot(World& world) {
  Communicator& all = world.all();
  HostStream stream;
  ForEachCase(kAll, [&](DType dtype, MemoryKind memory, int64_t count) {
    for (int root = 0; root < all.size(); ++root) {
      const bool is_root = all.rank() == root;
      OwnedTensor send(world, memory, dtype, {count});
      OwnedTensor receive(world, memory, dtype, {all.size(), count});
      for (int64_t i = 0; i < count; ++i) {
        send.Set(i, Pattern(all.rank(), i));
        receive.Set(all.rank() * count + i, Pattern(all.rank(), i));
      }
      // The root's own block may lie in its place.
      const Tensor from = is_root ? receive.tensor.Rows(root, 1).Reshape({count}) : send.tensor;
      all.Gather(stream, from, is_root ? receive.tensor : Tensor{}, root, "gather").Wait(stream);
      for (int64_t i = 0; is_root && i < count * all.size(); ++i) {
        const double expected = Pattern(static_cast<int>(i / count), i % count);
        CONVOY_REQUIRE(receive.Get(i) == expected,
                       Where("gather", dtype, count, i, receive.Get(i), expected));
      }
    }
  });
}

void ScatterFromEveryRoot(World& world) {
  Communicator& all = world.all();
  HostStream stream;
  ForEachCase(kAll, [&](DType dtype, MemoryKind memory, int64_t count) {
    for (int root = 0; root < all.size(); ++root) {
      const bool is_root = all.rank() == root;
      OwnedTensor send(world, memory, dtype, {all.size(), count});
      OwnedTensor receive(world, memory, dtype, {count});
      for (int64_t i = 0; i < count * all.size(); ++i) send.Set(i, Pattern(root, i));
      all.Scatter(stream, is_root ? send.tensor : Tensor{}, receive.tensor, root, "scatter")
          .Wait(stream);
      for (int64_t i = 0; i < count; ++i) {
        const double expected = Pattern(root, all.rank() * count + i);
        CONVOY_REQUIRE(receive.Get(i) == expected,
                       Where("scatter", dtype, count, i, receive.Get(i), expected));
      }
    }
  });
}

void BroadcastFromEveryRoot(World& world) {
  Communicator& all = world.all();
  HostStream stream;
  ForEachCase(kAll, [&](DType dtype, MemoryKind memory, int64_t count) {
    for (int root = 0; root < all.size(); ++root) {
      OwnedTensor data(world, memory, dtype, {count});
      for (int64_t i = 0; i < count; ++i) data.Set(i, Pattern(all.rank(), i));
      all.Broadcast(stream, data.tensor, root, "broadcast").Wait(stream);
      for (int64_t i = 0; i < count; ++i) {
        const double expected = Pattern(root, i);
        CONVOY_REQUIRE(data.Get(i) == expected,
                       Where("broadcast", dtype, count, i, data.Get(i), expected));
      }
    }
  });
}

// Larger than the pieces in which reductions go through MPI, and not a multiple of them.
void LargeArraysInPieces(World& world) {
  Communicator& all = world.all();
  HostStream stream;
  constexpr int64_t kCount = 1500001;
  for (const MemoryKind memory : kMemories) {
    OwnedTensor data(world, memory, DType::kInt32, {all.size(), kCount});
    OwnedTensor block(world, memory, DType::kInt32, {kCount});
    int32_t* values = data.tensor.As<int32_t>();
    const auto element = [](int rank, int64_t i) {
      return static_cast<int32_t>(i % 1009 * (rank + 1));
    };
    const auto sum = [&](int64_t i) {
      int32_t total = 0;
      for (int r = 0; r < all.size(); ++r) total += element(r, i);
      return total;
    };
    const auto fill = [&] {
      for (int64_t i = 0; i < data.tensor.count(); ++i) values[i] = element(all.rank(), i);
    };
    fill();
    all.ReduceScatter(stream, data.tensor, block.tensor, "reduce-scatter").Wait(stream);
    for (int64_t i = 0; i < kCount; ++i) {
      CONVOY_REQUIRE(block.tensor.As<int32_t>()[i] == sum(all.rank() * kCount + i),
                     fmt::format("reduce-scatter: element {}", i));
    }
    fill();
    all.AllReduce(stream, data.tensor, ReduceOp::kSum, "all-reduce").Wait(stream);
    for (int64_t i = 0; i < data.tensor.count(); ++i) {
      CONVOY_REQUIRE(values[i] == sum(i), fmt::format("all-reduce: element {}", i));
    }
  }
}

}  // namespace

const std::vector<CollectiveCheck>& CollectiveChecks() {
  static const std::vector<CollectiveCheck> checks = {
      {"AllReduceOfEveryType", AllReduceOfEveryType},
      {"AllGatherOfEveryType", AllGatherOfEveryType},
      {"ReduceScatterOfEveryType", ReduceScatterOfEveryType},
      {"ReduceScatterBesideItsResult", ReduceScatterBesideItsResult},
      {"GatherToEveryRoot", GatherToEveryRoot},
      {"ScatterFromEveryRoot", ScatterFromEveryRoot},
      {"BroadcastFromEveryRoot", BroadcastFromEveryRoot},
      {"LargeArraysInPieces", LargeArraysInPieces},
  };
  return checks;
}

}  // namespace convoy
