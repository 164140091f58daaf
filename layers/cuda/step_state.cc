#include "layers/cuda/step_state.h"

namespace convoy::cuda {

StepState::StepState(int device)
    : values_(AllocateDevice(device, sizeof(StepValues))), uploader_(device) {}

const StepValues* StepState::device_values() const {
  return static_cast<const StepValues*>(values_.data());
}

void StepState::SetValues(Stream& stream, const StepContext& context) {
  if (IsRecording(stream)) return;
  const StepValues values{.seed = context.seed,
                          .epoch = static_cast<uint32_t>(context.epoch),
                          .loss_scale = static_cast<float>(context.loss_scale)};
  if (has_values_ && values == host_values_) return;
  host_values_ = values;
  has_values_ = true;
  uploader_.Copy(stream, &values, sizeof(values), values_.data());
}

}  // namespace convoy::cuda
