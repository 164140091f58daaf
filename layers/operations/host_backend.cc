#include "layers/operations/host_backend.h"

#include <cstring>

#include "core/tensor/convert.h"
#include "layers/operations/channel_blocks.h"

namespace convoy {
namespace {

// copy(pointer into blocks, pointer into whole, bytes) for every run of contiguous channels.
template <typename Copy>
void ForEachRun(const Tensor& blocks, const Tensor& whole, int threads, Copy copy) {
  const ChannelBlocks sizes = ChannelBlocksOf(blocks, whole);
  const int64_t element = SizeOf(blocks.dtype);
  auto* const block_bytes = static_cast<std::byte*>(blocks.data);
  auto* const whole_bytes = static_cast<std::byte*>(whole.data);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t place = 0; place < sizes.places; ++place) {
    std::byte* in_whole = whole_bytes + place * sizes.channels * element;
    for (int64_t g = 0; g < sizes.groups; ++g) {
      const int64_t run = (sizes.shortest + (g < sizes.longer ? 1 : 0)) * element;
      copy(block_bytes + g * sizes.capacity * element + place * run, in_whole,
           static_cast<size_t>(run));
      in_whole += run;
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
