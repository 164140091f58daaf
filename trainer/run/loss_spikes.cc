#include "trainer/run/loss_spikes.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

namespace convoy {

std::optional<LossSpike> LossSpikeWatch::Add(double loss) {
  std::optional<LossSpike> spike;
  if (std::ssize(losses_) >= kFewest) {
    const auto count = static_cast<double>(losses_.size());
    const double mean = std::accumulate(losses_.begin(), losses_.end(), 0.0) / count;
    double squares = 0;
    for (const double before : losses_) squares += (before - mean) * (before - mean);
    const double deviation = std::max(std::sqrt(squares / count), 1e-3 * std::abs(mean));
    if (loss > mean + kDeviations * deviation) {
      spike = LossSpike{.loss = loss, .mean = mean, .deviation = deviation};
    }
  }
  losses_.push_back(loss);
  if (std::ssize(losses_) > kWindow) losses_.pop_front();
  return spike;
}

}  // namespace convoy
