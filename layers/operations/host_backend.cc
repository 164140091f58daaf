#include "layers/operations/host_backend.h"

#include <cstring>

#include "core/tensor/convert.h"

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

void HostBackend::CopyToHost(Stream& stream, const Tensor& from, void* to) {
  stream.Copy(to, from.data, from.bytes());
}

void HostBackend::CopyToDevice(Stream& stream, const void* from, const Tensor& to) {
  stream.Copy(to.data, from, to.bytes());
}

void HostBackend::ConvertTensor(Stream&, const Tensor& from, const Tensor& to) {
  ConvertOnHost(from, to);
}

void HostBackend::ConcatenateChannels(Stream&, const Tensor& blocks, const Tensor& whole) {
  ForEachRun(blocks, whole, threads_, [](const std::byte* block, std::byte* place, size_t bytes) {
    std::memcpy(place, block, bytes);
  });
}

void HostBackend::SplitChannels(Stream&, const Tensor& whole, const Tensor& blocks) {
  ForEachRun(blocks, whole, threads_, [](std::byte* block, const std::byte* place, size_t bytes) {
    std::memcpy(block, place, bytes);
  });
}

}  // namespace convoy
