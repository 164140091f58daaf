// Blocks of channels to whole activations and back, between the towers. Bytes per byte moved: 1
// read, 1 written, in units of up to 16; no flops.
#include <cstddef>

#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/operations.h"

namespace convoy::cuda {
namespace {

// Unit i of `whole` [places][blocks][units of a run], which is unit u of run (block, place) of
// `blocks` [blocks][places][units of a run].
template <typename Unit, bool kSplit>
struct MoveRunsKernel {
  Unit* blocks;
  Unit* whole;
  Divider run_units, block_count;
  int32_t places;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t unit, block;
    const int32_t run = run_units.Split(i, &unit);
    const int32_t place = block_count.Split(run, &block);
    Unit* const in_block = blocks + ((block * places + place) * run_units.divisor() + unit);
    if constexpr (kSplit) {
      *in_block = whole[i];
    } else {
      whole[i] = *in_block;
    }
  }
};

template <bool kSplit>
void MoveRuns(Stream& stream, const Tensor& blocks, const Tensor& whole) {
  const int64_t block_count = blocks.shape[0], channels = blocks.shape.back();
  CONVOY_CHECK(blocks.dtype == whole.dtype && blocks.count() == whole.count() &&
                   whole.shape.back() == block_count * channels,
               "{} and {}", blocks.shape.ToString(), whole.shape.ToString());
  // The widest unit divides both addresses too.
  const auto addresses = static_cast<int64_t>(reinterpret_cast<uintptr_t>(blocks.data) |
                                              reinterpret_cast<uintptr_t>(whole.data));
  const int64_t run_bytes = channels * SizeOf(blocks.dtype);
  const auto move = [&](auto unit) {
    using Unit = decltype(unit);
    constexpr auto kUnit = static_cast<int64_t>(sizeof(Unit));
    ForEach(stream, whole.bytes() / kUnit,
            MoveRunsKernel<Unit, kSplit>{
                .blocks = static_cast<Unit*>(blocks.data),
                .whole = static_cast<Unit*>(whole.data),
                .run_units = Divider(run_bytes / kUnit),
                .block_count = Divider(block_count),
                .places = CheckedCount(blocks.count() / block_count / channels)});
  };
  switch (VectorWidthFor(run_bytes | addresses, 16)) {
    case 16:
      return move(Vector<uint32_t, 4>{});
    case 8:
      return move(Vector<uint32_t, 2>{});
    case 4:
      return move(uint32_t{});
    case 2:
      return move(uint16_t{});
    default:
      return move(uint8_t{});
  }
}

}  // namespace

void ConcatenateChannels(Stream& stream, const Tensor& blocks, const Tensor& whole) {
  MoveRuns<false>(stream, blocks, whole);
}

void SplitChannels(Stream& stream, const Tensor& whole, const Tensor& blocks) {
  MoveRuns<true>(stream, blocks, whole);
}

}  // namespace convoy::cuda
