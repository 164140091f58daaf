// layers/cuda/step_state.h - what changes from step to step, kept on the device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/cuda/runtime.h"
#include "layers/cuda/kernels/operations.h"

namespace convoy::cuda {

// One backend's. Values are copied to the device only where they differ from those that it holds,
// on the stream of the step, so that a step that is still under way keeps its own.
class StepState {
 public:
  explicit StepState(int device);

  const StepValues* device_values() const;
  // Queues the copy. Nothing where `stream` is being recorded: whoever queues the recording sets
  // the values before.
  void SetValues(Stream& stream, const StepContext& context);
  void SetRanges(Stream& stream, std::span<const UpdateRange> ranges);
  // Where the device keeps `ranges`, neighbours in what SetRanges was given last. Where it was not,
  // and the stream is not being recorded, they are set now.
  const DeviceUpdateRange* RangesFor(Stream& stream, std::span<const UpdateRange> ranges);

 private:
  // Copies through one of several pieces of pinned memory, so that the next call need not wait for
  // this one's copy.
  void Upload(Stream& stream, const void* from, int64_t bytes, void* to);

  static constexpr int kSlots = 8;
  static constexpr int64_t kMaxRanges = 1024;
  struct Slot {
    Buffer memory;
    std::unique_ptr<Event> copied;
  };

  int device_;
  Buffer values_, ranges_;  // on the device
  StepValues host_values_;
  bool has_values_ = false;
  std::vector<DeviceUpdateRange> host_ranges_;
  std::vector<Slot> slots_;
  size_t next_slot_ = 0;
};

}  // namespace convoy::cuda
