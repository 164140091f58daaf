#include "launch/commands/loader_digest.h"

#include <algorithm>
#include <vector>

#include "core/hash.h"

namespace convoy {

uint64_t DigestOf(const Batch& batch, bool counts, World& world) {
  const int64_t row_bytes = batch.shape.DropFirst().count();
  // One hash per position of the global batch, gathered by adding: each comes from one rank.
  std::vector<int64_t> hashes(static_cast<size_t>(batch.global_count));
  int64_t first = INT64_MAX;
  for (const SampleInfo& sample : batch.samples) {
    if (sample.weight > 0) first = std::min(first, sample.position);
  }
  HostStream stream;
  world.all()
      .AllReduce(stream, {&first, DType::kInt64, Shape{1}}, ReduceOp::kMin, "digest")
      .Wait(stream);
  const auto* values = static_cast<const uint8_t*>(batch.pixels.data());
  for (size_t row = 0; row < batch.samples.size() && counts; ++row) {
    const SampleInfo& sample = batch.samples[row];
    if (sample.weight <= 0) continue;
    Hasher hasher;
    hasher.Add(values + static_cast<int64_t>(row) * row_bytes, static_cast<size_t>(row_bytes));
    hasher.Add(&sample, sizeof(sample));
    hashes.at(static_cast<size_t>(sample.position - first)) = static_cast<int64_t>(hasher.Digest());
  }
  world.all()
      .AllReduce(stream, {hashes.data(), DType::kInt64, Shape{batch.global_count}}, ReduceOp::kSum,
                 "digest")
      .Wait(stream);
  Hasher whole;
  whole.Add(hashes.data(), hashes.size() * sizeof(int64_t));
  whole.Add(&batch.colour_scale, sizeof(batch.colour_scale));
  return whole.Digest();
}

}  // namespace convoy
