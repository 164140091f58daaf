// trainer/run/loss_spikes.h - tells a loss that jumps from one that only varies.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

namespace convoy {

// A loss far above those before it. `mean` and `deviation` are of the losses before.
struct LossSpike {
  double loss = 0, mean = 0, deviation = 0;
  double Deviations() const { return (loss - mean) / deviation; }
};

// Compares every loss with the last kWindow ones. Until kFewest are known it says nothing.
class LossSpikeWatch {
 public:
  static constexpr int kWindow = 100, kFewest = 30;
  static constexpr double kDeviations = 6;

  // Adds a finite loss. Returns what is said of it if it lies more than kDeviations standard
  // deviations above the mean. A deviation counts as at least a thousandth of the mean, so that
  // rounding is no spike if the loss stands still.
  std::optional<LossSpike> Add(double loss);

 private:
  std::deque<double> losses_;
};

}  // namespace convoy
