// layers/operations/host_rows.h - what a network is told of each row, in host memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/tensor/batch.h"
#include "layers/network.h"

namespace convoy {

class HostRows {
 public:
  explicit HostRows(int64_t batch)
      : labels_(static_cast<size_t>(batch)),
        weights_(static_cast<size_t>(batch)),
        positions_(static_cast<size_t>(batch)) {}

  // `samples` has as many rows.
  void Load(const std::vector<SampleInfo>& samples) {
    for (size_t n = 0; n < labels_.size(); ++n) {
      labels_[n] = samples[n].label;
      weights_[n] = samples[n].weight;
      positions_[n] = samples[n].position;
    }
  }

  // Returns views of this object's memory.
  RowInfo info() const {
    const Shape shape{static_cast<int64_t>(labels_.size())};
    return {{labels_.data(), DType::kInt32, shape},
            {weights_.data(), DType::kFloat32, shape},
            {positions_.data(), DType::kInt64, shape}};
  }

 private:
  // A Tensor's data is not const.
  mutable std::vector<int32_t> labels_;
  mutable std::vector<float> weights_;
  mutable std::vector<int64_t> positions_;
};

}  // namespace convoy
