#include "layers/cuda/step_state.h"

#include <algorithm>
#include <cstring>

namespace convoy::cuda {
namespace {

DeviceUpdateRange Of(const UpdateRange& range) {
  return {.begin = range.begin,
          .count = range.count,
          .lr = static_cast<float>(range.lr),
          .momentum = static_cast<float>(range.momentum),
          .weight_decay = static_cast<float>(range.weight_decay)};
}

std::vector<DeviceUpdateRange> Of(std::span<const UpdateRange> ranges) {
  std::vector<DeviceUpdateRange> result;
  result.reserve(ranges.size());
  for (const UpdateRange& range : ranges) result.push_back(Of(range));
  return result;
}

}  // namespace

StepState::StepState(int device)
    : device_(device),
      values_(AllocateDevice(device, sizeof(StepValues))),
      ranges_(AllocateDevice(device, kMaxRanges * static_cast<int64_t>(sizeof(DeviceUpdateRange)))),
      slots_(kSlots) {}

const StepValues* StepState::device_values() const {
  return static_cast<const StepValues*>(values_.data());
}

void StepState::Upload(Stream& stream, const void* from, int64_t bytes, void* to) {
  Slot& slot = slots_[next_slot_];
  next_slot_ = (next_slot_ + 1) % slots_.size();
  if (slot.copied) slot.copied->Synchronize();
  if (slot.memory.bytes() < bytes) slot.memory = AllocatePinned(device_, bytes);
  std::memcpy(slot.memory.data(), from, static_cast<size_t>(bytes));
  stream.Copy(to, slot.memory.data(), bytes);
  slot.copied = stream.Record();
}

void StepState::SetValues(Stream& stream, const StepContext& context) {
  if (IsRecording(stream)) return;
  const StepValues values{.seed = context.seed,
                          .epoch = static_cast<uint32_t>(context.epoch),
                          .loss_scale = static_cast<float>(context.loss_scale)};
  if (has_values_ && values == host_values_) return;
  host_values_ = values;
  has_values_ = true;
  Upload(stream, &values, sizeof(values), values_.data());
}

void StepState::SetRanges(Stream& stream, std::span<const UpdateRange> ranges) {
  std::vector<DeviceUpdateRange> wanted = Of(ranges);
  if (wanted == host_ranges_) return;
  CONVOY_CHECK(std::ssize(wanted) <= kMaxRanges, "{} ranges", wanted.size());
  host_ranges_ = std::move(wanted);
  Upload(stream, host_ranges_.data(),
         std::ssize(host_ranges_) * static_cast<int64_t>(sizeof(DeviceUpdateRange)),
         ranges_.data());
}

const DeviceUpdateRange* StepState::RangesFor(Stream& stream, std::span<const UpdateRange> ranges) {
  const auto* device = static_cast<const DeviceUpdateRange*>(ranges_.data());
  const std::vector<DeviceUpdateRange> wanted = Of(ranges);
  const auto found =
      std::search(host_ranges_.begin(), host_ranges_.end(), wanted.begin(), wanted.end());
  if (found != host_ranges_.end()) return device + (found - host_ranges_.begin());
  CONVOY_CHECK(!IsRecording(stream), "a recorded update of ranges that were not set");
  SetRanges(stream, ranges);
  return device;
}

}  // namespace convoy::cuda
