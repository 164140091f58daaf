// Blocks of channels to whole activations and back, between the towers. Bytes per byte moved: 1
// read, 1 written, in units of up to 16; no flops.
#include <algorithm>
#include <cstddef>

#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/operations.h"
#include "layers/operations/channel_blocks.h"

namespace convoy::cuda {
namespace {

// Unit i of `whole` [places][units of C channels], and the same unit of `blocks`, in which block g
// begins at g * capacity. The first blocks may be one unit longer than the others: such units are
// single channels.
template <typename Unit, bool kSplit>
struct MoveRunsKernel {
  Unit* blocks;
  Unit* whole;
  Divider place_units, short_units, long_units;
  int32_t long_blocks, long_end;  // units of a place that lie in the longer blocks: [0, long_end)
  int32_t capacity;

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    int32_t in_place, unit;
    const int32_t place = place_units.Split(i, &in_place);
    const bool is_long = in_place < long_end;
    const Divider& run_units = is_long ? long_units : short_units;
    const int32_t block = run_units.Split(is_long ? in_place : in_place - long_end, &unit) +
                          (is_long ? 0 : long_blocks);
    Unit* const in_block = blocks + (block * capacity + place * run_units.divisor() + unit);
    if constexpr (kSplit) {
      *in_block = whole[i];
    } else {
      whole[i] = *in_block;
    }
  }
};

template <bool kSplit>
void MoveRuns(Stream& stream, const Tensor& blocks, const Tensor& whole) {
  const ChannelBlocks sizes = ChannelBlocksOf(blocks, whole);
  const int64_t element = SizeOf(blocks.dtype);
  const auto move = [&](auto unit) {
    using Unit = decltype(unit);
    const auto units = [&](int64_t channels) {
      return channels * element / static_cast<int64_t>(sizeof(Unit));
    };
    CheckedCount(units(blocks.count()));
    ForEach(stream, units(whole.count()),
            MoveRunsKernel<Unit, kSplit>{
                .blocks = static_cast<Unit*>(blocks.data),
                .whole = static_cast<Unit*>(whole.data),
                .place_units = Divider(units(sizes.channels)),
                .short_units = Divider(units(std::max<int64_t>(1, sizes.shortest))),
                .long_units = Divider(units(sizes.shortest + 1)),
                .long_blocks = static_cast<int32_t>(sizes.longer),
                .long_end = CheckedCount(units(sizes.longer * (sizes.shortest + 1))),
                .capacity = CheckedCount(units(sizes.capacity))});
  };
  // The widest unit divides the runs of all blocks, and both addresses.
  const auto addresses = static_cast<int64_t>(reinterpret_cast<uintptr_t>(blocks.data) |
                                              reinterpret_cast<uintptr_t>(whole.data));
  const int64_t run_bytes = (sizes.longer == 0 ? sizes.shortest : 1) * element;
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
