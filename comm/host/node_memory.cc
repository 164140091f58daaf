#include "comm/host/node_memory.h"

#include <unistd.h>

#include <array>

#include "core/error.h"
#include "core/text.h"

namespace convoy {
namespace {

// Smaller blocks are not worth a segment of their own.
constexpr int64_t kSmallestSegmentBytes = 4096;
constexpr size_t kSegmentsOfARank = 64;

struct SegmentEntry {
  std::atomic<uint64_t> segment;  // 0: free
  std::atomic<int32_t> descriptor;
  std::atomic<int64_t> bytes;
};

}  // namespace

struct alignas(64) NodeMemory::Row {
  RankProgress progress;
  std::array<SegmentEntry, kSegmentsOfARank> segments;
};

NodeMemory::NodeMemory(std::shared_ptr<void> table, int rank, int ranks)
    : table_(std::move(table)), rank_(rank) {
  CONVOY_CHECK(rank >= 0 && rank < ranks, "rank {} of {}", rank, ranks);
  progress(rank).process.store(getpid(), std::memory_order_relaxed);
  progress(rank).Sign();
}

NodeMemory::~NodeMemory() { progress(rank_).ended.store(1, std::memory_order_release); }

int64_t NodeMemory::TableBytes(int ranks) {
  return static_cast<int64_t>(sizeof(Row)) * static_cast<int64_t>(ranks);
}

NodeMemory::Row& NodeMemory::RowOf(int rank) const { return static_cast<Row*>(table_.get())[rank]; }

RankProgress& NodeMemory::progress(int rank) const { return RowOf(rank).progress; }

Buffer NodeMemory::Allocate(int64_t bytes) {
  if (bytes < kSmallestSegmentBytes) return AllocateHost(bytes);
  const std::lock_guard lock(mutex_);
  for (SegmentEntry& entry : RowOf(rank_).segments) {
    if (entry.segment.load(std::memory_order_relaxed) != 0) continue;
    std::optional<SharedSegment> created = SharedSegment::Create(bytes);
    if (!created) break;
    const uint64_t segment = ++last_segment_;
    entry.descriptor.store(created->descriptor(), std::memory_order_relaxed);
    entry.bytes.store(bytes, std::memory_order_relaxed);
    entry.segment.store(segment, std::memory_order_release);
    std::byte* const data = created->data();
    own_.emplace(segment, std::move(*created));
    return Buffer(data, bytes, Device{}, [this, segment](void*) { Release(segment); });
  }
  return AllocateHost(bytes);
}

void NodeMemory::Release(uint64_t segment) {
  const std::lock_guard lock(mutex_);
  for (SegmentEntry& entry : RowOf(rank_).segments) {
    if (entry.segment.load(std::memory_order_relaxed) == segment) {
      entry.segment.store(0, std::memory_order_release);
    }
  }
  own_.erase(segment);
}

Exposure NodeMemory::Expose(const void* data, int64_t bytes) const {
  const auto* first = static_cast<const std::byte*>(data);
  const std::lock_guard lock(mutex_);
  for (const auto& [segment, memory] : own_) {
    if (first >= memory.data() && first + bytes <= memory.data() + memory.bytes()) {
      return {.segment = segment, .offset = static_cast<uint64_t>(first - memory.data())};
    }
  }
  return {};
}

std::byte* NodeMemory::Reach(int rank, const Exposure& exposure) {
  const std::lock_guard lock(mutex_);
  if (rank == rank_) return own_.at(exposure.segment).data() + exposure.offset;
  const auto found = mapped_.find({rank, exposure.segment});
  if (found != mapped_.end()) return found->second.data() + exposure.offset;

  DropReleased(rank);
  const int process = progress(rank).process.load(std::memory_order_relaxed);
  for (SegmentEntry& entry : RowOf(rank).segments) {
    if (entry.segment.load(std::memory_order_acquire) != exposure.segment) continue;
    const int64_t bytes = entry.bytes.load(std::memory_order_relaxed);
    std::optional<SharedSegment> opened =
        SharedSegment::Open(process, entry.descriptor.load(std::memory_order_relaxed), bytes);
    if (!opened) {
      throw Error(ExitCode::kPeer,
                  fmt::format("cannot map {} of process {} on this host",
                              FormatBytes(static_cast<double>(bytes)), process),
                  "that rank is gone, or this one has too many memory maps");
    }
    std::byte* const data = opened->data();
    mapped_.emplace(std::pair{rank, exposure.segment}, std::move(*opened));
    return data + exposure.offset;
  }
  CONVOY_CHECK(false, "rank {} of this host has no segment {}", rank, exposure.segment);
  return nullptr;
}

// Gives back what the rank itself has given back: new segments often follow old ones.
void NodeMemory::DropReleased(int rank) {
  std::erase_if(mapped_, [this, rank](const auto& mapped) {
    if (mapped.first.first != rank) return false;
    for (const SegmentEntry& entry : RowOf(rank).segments) {
      if (entry.segment.load(std::memory_order_acquire) == mapped.first.second) return false;
    }
    return true;
  });
}

}  // namespace convoy
