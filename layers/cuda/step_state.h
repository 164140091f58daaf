// layers/cuda/step_state.h - what changes from step to step, kept on the device.
#pragma once

#include "core/cuda/runtime.h"
#include "core/cuda/upload.h"
#include "layers/cuda/kernels/operations.h"

namespace convoy::cuda {

// One backend's. Values are copied to the device only if they differ from those that it holds, on
// the stream of the step, so that a step that is still under way keeps its own.
class StepState {
 public:
  explicit StepState(int device);

  const StepValues* device_values() const;
  // Queues the copy. Does nothing if `stream` is being recorded: whoever queues the recording sets
  // the values before.
  void SetValues(Stream& stream, const StepContext& context);

 private:
  Buffer values_;  // on the device
  StepValues host_values_;
  bool has_values_ = false;
  Uploader uploader_;
};

}  // namespace convoy::cuda
