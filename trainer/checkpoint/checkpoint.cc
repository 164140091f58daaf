#include "trainer/checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "trainer/checkpoint/info.h"
#include "trainer/checkpoint/safetensors.h"
#include "trainer/ranks/agreement.h"
#include "trainer/step/sharded_state.h"

namespace convoy {
namespace {

constexpr const char* kMean = "preprocessing.mean";
constexpr const char* kDeviation = "preprocessing.standard_deviation";
constexpr int64_t kPieceBytes = 8 << 20;

// One uncut tensor of the state and where this rank's rows of it lie.
struct StateTensor {
  std::string name;    // "adam_m.conv1.weight"
  std::string source;  // the parameter or buffer that says which rows are whose: "conv1.weight"
  Shape uncut;
  Tensor local;       // empty if the rank has no row
  int64_t begin = 0;  // first row

  int64_t RowElements() const { return uncut.DropFirst().count(); }
};

// Tensors of a checkpoint that lie in the same arenas of a rank.
struct StateGroup {
  std::vector<StateTensor> tensors;
  std::optional<size_t> state;  // of the optimiser, by its index; else weights and buffers
};

// Everything that a checkpoint holds, in file order, the same list on every rank. Views of states
// are of where WholeState and RoomForState have them.
std::vector<StateGroup> StateOf(const RankPlan& plan, ParameterStore& store) {
  const auto tensor_of = [](const auto& slices, const ArenaLayout& layout, const Tensor& arena,
                            const std::string& name, const Shape& uncut) {
    StateTensor tensor{.name = name, .source = name, .uncut = uncut, .local = {}};
    for (const auto& slice : slices) {
      if (slice.uncut.name != name) continue;
      tensor.local = layout.View(arena, name);
      tensor.begin = slice.begin;
    }
    return tensor;
  };
  std::vector<StateGroup> groups(1 + store.states().size());
  for (size_t i = 0; i < store.states().size(); ++i) groups[1 + i].state = i;
  const ArenaLayout& layout = store.parameter_layout();
  for (const LayerSite& site : SitesOf(plan.network)) {
    for (const ParameterInfo& parameter : site.parameters) {
      groups[0].tensors.push_back(
          tensor_of(plan.parameters, layout, store.parameters(), parameter.name, parameter.shape));
      for (size_t i = 0; i < store.states().size(); ++i) {
        groups[1 + i].tensors.push_back(tensor_of(plan.parameters, layout,
                                                  RoomForState(plan, store, i), parameter.name,
                                                  parameter.shape));
        groups[1 + i].tensors.back().name = store.state_names()[i] + "." + parameter.name;
      }
    }
    for (const BufferInfo& buffer : site.buffers) {
      groups[0].tensors.push_back(tensor_of(plan.buffers, store.buffer_layout(), store.buffers(),
                                            buffer.name, buffer.shape));
    }
  }
  return groups;
}

// Returns which rows of a parameter or buffer a rank of the replica writes: (begin, count), count 0
// if none. Of those that hold the same ones it is the first.
std::pair<int64_t, int64_t> RowsWrittenBy(const RankPlan& rank, const std::string& name) {
  const auto rows_in = [&](const auto& slices) -> std::pair<int64_t, int64_t> {
    for (const auto& slice : slices) {
      if (name != slice.uncut.name) continue;
      if (rank.IsFirstAlong(slice.copies)) return {slice.begin, slice.count};
    }
    return {0, 0};
  };
  const auto parameter = rows_in(rank.parameters);
  return parameter.second > 0 ? parameter : rows_in(rank.buffers);
}

template <typename From, typename To>
void Convert(const void* from, void* to, int64_t count) {
  const auto* source = static_cast<const From*>(from);
  auto* target = static_cast<To*>(to);
  for (int64_t i = 0; i < count; ++i) target[i] = static_cast<To>(source[i]);
}

// `count` elements of type `from` at `data`, in place or in `scratch`, as type `to`.
const void* AsType(const void* data, DType from, DType to, int64_t count,
                   std::vector<char>& scratch) {
  if (from == to) return data;
  scratch.resize(static_cast<size_t>(count * SizeOf(to)));
  if (from == DType::kFloat32 && to == DType::kFloat64) {
    Convert<float, double>(data, scratch.data(), count);
  } else if (from == DType::kFloat64 && to == DType::kFloat32) {
    Convert<double, float>(data, scratch.data(), count);
  } else {
    throw Error(ExitCode::kCheckpoint,
                fmt::format("a tensor of type {} where {} is needed", NameOf(from), NameOf(to)));
  }
  return scratch.data();
}

SafetensorsEntry FloatEntry(const char* name, const std::vector<float>& values) {
  return {
      .name = name, .dtype = DType::kFloat32, .shape = Shape{static_cast<int64_t>(values.size())}};
}

std::vector<float> ReadFloats(const SafetensorsReader& reader, const char* name) {
  const SafetensorsEntry* entry = reader.Find(name);
  if (entry == nullptr || entry->dtype != DType::kFloat32) return {};
  std::vector<float> values(static_cast<size_t>(entry->shape.count()));
  reader.Read(*entry, 0, values.data(), entry->bytes());
  return values;
}

// Throws naming every tensor that the file lacks or has in another shape.
void RequireState(const SafetensorsReader& reader, const std::vector<StateGroup>& state) {
  std::vector<std::string> complaints;
  for (const StateGroup& group : state) {
    for (const StateTensor& tensor : group.tensors) {
      const SafetensorsEntry* entry = reader.Find(tensor.name);
      if (entry == nullptr) {
        complaints.push_back(tensor.name + " is missing");
      } else if (entry->shape != tensor.uncut) {
        complaints.push_back(fmt::format("{} is {}, expected {}", tensor.name,
                                         entry->shape.ToString(), tensor.uncut.ToString()));
      }
    }
  }
  if (complaints.empty()) return;
  constexpr size_t kShown = 4;
  const size_t more = complaints.size() - std::min(complaints.size(), kShown);
  complaints.resize(std::min(complaints.size(), kShown));
  throw Error(
      ExitCode::kCheckpoint,
      fmt::format("{} does not fit this network: {}{}", reader.path(), fmt::join(complaints, "; "),
                  more > 0 ? fmt::format("; and {} more", more) : ""),
      "give the checkpoint's own --model and its options");
}

// Writes a checkpoint on rank 0 of the first replica. A full disk must not leave the other ranks
// waiting: they go on, and the error comes at the end.
class StateWriter {
 public:
  explicit StateWriter(Engine& engine)
      : backend_(engine.backend()),
        stream_(engine.stream()),
        ranks_(engine.grid().HostAlong(Axis::kShard | Axis::kTower)),
        dtype_(backend_.master_dtype()),
        piece_(backend_.AllocateStaging(kPieceBytes)) {
    const RankPlan& plan = engine.plan();
    for (int rank = 0; rank < plan.grid.ranks_per_replica(); ++rank) {
      plans_.push_back(MakePlan(plan.network, plan.grid, rank));
    }
  }

  void Begin(const std::string& path, const CheckpointInfo& info,
             const std::vector<StateGroup>& state) {
    if (ranks_.rank() != 0) return;
    std::vector<SafetensorsEntry> entries = {
        FloatEntry(kMean, info.preprocessing.mean),
        FloatEntry(kDeviation, info.preprocessing.standard_deviation)};
    for (const StateGroup& group : state) {
      for (const StateTensor& tensor : group.tensors) {
        entries.push_back({tensor.name, dtype_, tensor.uncut});
      }
    }
    try {
      writer_.emplace(path, std::move(entries), MetadataOf(info));
    } catch (const Error& error) {
      failure_ = error;
    }
    for (const auto* values : {&info.preprocessing.mean, &info.preprocessing.standard_deviation}) {
      Write(values->data(), static_cast<int64_t>(values->size() * sizeof(float)));
    }
  }

  // Collective over the ranks of the replica, who hold their rows in their own order.
  void Add(const StateTensor& tensor) {
    for (int rank = 0; rank < ranks_.size(); ++rank) {
      const auto [begin, rows] = RowsWrittenBy(plans_[static_cast<size_t>(rank)], tensor.source);
      const int64_t count = rows * tensor.RowElements();
      const int64_t piece_elements = kPieceBytes / SizeOf(dtype_);
      for (int64_t first = 0; first < count; first += piece_elements) {
        const int64_t elements = std::min(piece_elements, count - first);
        const Tensor part = ViewOf(piece_, dtype_, Shape{elements});
        if (rank == ranks_.rank()) {
          backend_.CopyToHost(stream_, tensor.local.Range(first, elements), part.data);
        }
        // One rank sends to the writer; a broadcast is the plainest way to say so.
        if (rank != 0) ranks_.Broadcast(stream_, part, rank, "saving a checkpoint").Wait(stream_);
        Write(part.data, part.bytes());
      }
    }
  }

  void End() {
    if (failure_) throw *failure_;
    if (writer_) writer_->Commit();
  }

 private:
  void Write(const void* data, int64_t bytes) {
    if (!writer_ || failure_) return;
    try {
      writer_->Write(data, bytes);
    } catch (const Error& error) {
      failure_ = error;
    }
  }

  Backend& backend_;
  Stream& stream_;
  Communicator& ranks_;
  const DType dtype_;
  const Buffer piece_;
  std::vector<RankPlan> plans_;  // of the ranks of the first replica
  std::optional<SafetensorsWriter> writer_;
  std::optional<Error> failure_;
};

// Reads a tensor on rank 0; every rank takes its rows.
void LoadTensor(const StateTensor& tensor, const std::optional<SafetensorsReader>& reader,
                Engine& engine) {
  Backend& backend = engine.backend();
  Stream& stream = engine.stream();
  World& world = engine.world();
  const DType master = backend.master_dtype();
  const Buffer piece = backend.AllocateStaging(kPieceBytes);
  std::vector<char> scratch;
  int32_t stored_type = 0;
  const SafetensorsEntry* entry = reader ? reader->Find(tensor.name) : nullptr;
  if (entry != nullptr) stored_type = static_cast<int32_t>(entry->dtype);
  world.all()
      .Broadcast(stream, {&stored_type, DType::kInt32, Shape{1}}, 0, "loading a checkpoint")
      .Wait(stream);
  const DType stored = static_cast<DType>(stored_type);

  const int64_t local_begin = tensor.begin * tensor.RowElements();
  const int64_t local_end = local_begin + (tensor.local ? tensor.local.count() : 0);
  const int64_t count = tensor.uncut.count(), piece_elements = kPieceBytes / SizeOf(stored);
  for (int64_t first = 0; first < count; first += piece_elements) {
    const int64_t elements = std::min(piece_elements, count - first);
    const Tensor part = ViewOf(piece, stored, Shape{elements});
    RunTogether(world, [&] {
      if (entry == nullptr) return;
      reader->Read(*entry, first * SizeOf(stored), part.data, part.bytes());
    });
    world.all().Broadcast(stream, part, 0, "loading a checkpoint").Wait(stream);
    // The overlap of this piece with the rank's own rows.
    const int64_t from = std::max(first, local_begin);
    const int64_t to = std::min(first + elements, local_end);
    if (from >= to) continue;
    const Tensor own = part.Range(from - first, to - from);
    backend.CopyToDevice(stream, AsType(own.data, stored, master, own.count(), scratch),
                         tensor.local.Range(from - local_begin, to - from));
  }
}

}  // namespace

void SaveCheckpoint(const std::string& path, const CheckpointInfo& info, Engine& engine) {
  const RankPlan& plan = engine.plan();
  ParameterStore& store = engine.store();
  const std::vector<StateGroup> state = StateOf(plan, store);
  std::optional<StateWriter> writer;
  if (plan.place.replica == 0) writer.emplace(engine).Begin(path, info, state);
  GatherMasterWeights(plan, store, engine.stream(), engine.grid());
  for (const StateGroup& group : state) {
    if (group.state) WholeState(plan, store, *group.state, engine.stream(), engine.grid());
    if (!writer) continue;
    for (const StateTensor& tensor : group.tensors) writer->Add(tensor);
  }
  if (writer) writer->End();
}

CheckpointInfo ReadCheckpointInfo(const std::string& path) {
  const SafetensorsReader reader(path);
  CheckpointInfo info = InfoFrom(reader.metadata(), path);
  info.preprocessing.mean = ReadFloats(reader, kMean);
  info.preprocessing.standard_deviation = ReadFloats(reader, kDeviation);
  return info;
}

void LoadCheckpoint(const std::string& path, Engine& engine) {
  Stream& stream = engine.stream();
  World& world = engine.world();
  const std::vector<StateGroup> state = StateOf(engine.plan(), engine.store());
  std::optional<SafetensorsReader> reader;
  RunTogether(world, [&] {
    if (world.rank() != 0) return;
    reader.emplace(path);
    RequireState(*reader, state);
  });

  for (const StateGroup& group : state) {
    for (const StateTensor& tensor : group.tensors) LoadTensor(tensor, reader, engine);
    if (group.state) TakeState(engine.plan(), engine.store(), *group.state, stream);
  }
  engine.store().RefreshCompute(stream);
}

}  // namespace convoy
