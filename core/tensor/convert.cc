#include "core/tensor/convert.h"

namespace convoy {

void ConvertOnHost(const Tensor& from, const Tensor& to) {
  CONVOY_CHECK(from.count() == to.count(), "{} and {}", from.shape.ToString(), to.shape.ToString());
  const int64_t count = from.count();
  if (to.dtype == DType::kBFloat16) {
    const float* values = from.As<float>();
    BFloat16* rounded = to.As<BFloat16>();
    for (int64_t i = 0; i < count; ++i) rounded[i] = BFloat16(values[i]);
  } else {
    const BFloat16* rounded = from.As<BFloat16>();
    float* values = to.As<float>();
    for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(rounded[i]);
  }
}

}  // namespace convoy
