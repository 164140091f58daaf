#include "layers/host_channels.h"

#include <cstring>

namespace convoy {
namespace {

struct Runs {
  int64_t blocks;     // G
  int64_t places;     // N * ...
  int64_t run_bytes;  // C elements
};

Runs RunsOf(const Tensor& blocks, const Tensor& whole) {
  const int64_t groups = blocks.shape[0];
  const int64_t channels = blocks.shape.back();
  CONVOY_CHECK(blocks.dtype == whole.dtype && blocks.count() == whole.count() &&
                   whole.shape.back() == groups * channels,
               "{} and {}", blocks.shape.ToString(), whole.shape.ToString());
  return {groups, blocks.count() / groups / channels, channels * SizeOf(blocks.dtype)};
}

// copy(pointer into blocks, pointer into whole, bytes) for every run of contiguous channels.
template <typename Copy>
void ForEachRun(const Tensor& blocks, const Tensor& whole, int threads, Copy copy) {
  const Runs runs = RunsOf(blocks, whole);
  auto* block_bytes = static_cast<std::byte*>(blocks.data);
  auto* whole_bytes = static_cast<std::byte*>(whole.data);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t place = 0; place < runs.places; ++place) {
    for (int64_t g = 0; g < runs.blocks; ++g) {
      copy(block_bytes + (g * runs.places + place) * runs.run_bytes,
           whole_bytes + (place * runs.blocks + g) * runs.run_bytes,
           static_cast<size_t>(runs.run_bytes));
    }
  }
}

}  // namespace

void ConcatenateHostChannels(const Tensor& blocks, const Tensor& whole, int threads) {
  ForEachRun(blocks, whole, threads, [](const std::byte* block, std::byte* place, size_t bytes) {
    std::memcpy(place, block, bytes);
  });
}

void SplitHostChannels(const Tensor& whole, const Tensor& blocks, int threads) {
  ForEachRun(blocks, whole, threads, [](std::byte* block, const std::byte* place, size_t bytes) {
    std::memcpy(block, place, bytes);
  });
}

}  // namespace convoy
