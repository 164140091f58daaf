#include "layers/operations/dropout_mask.h"
#include "layers/oracle/layer.h"

namespace convoy::oracle {
namespace {

class OracleDropout final : public OracleLayer {
 public:
  OracleDropout(const Dropout& dropout, const Site& site) : dropout_(dropout), site_(site) {}

  void Forward(const StepContext& context, const double* x, double* y) override {
    ForEach(context, [&](int64_t i, double factor) { y[i] = x[i] * factor; });
  }

  void Backward(const StepContext& context, bool, const double*, const double*, const double* dy,
                double* dx) override {
    if (dx == nullptr) return;
    ForEach(context, [&](int64_t i, double factor) { dx[i] = dy[i] * factor; });
  }

 private:
  // visit(index, what the value is multiplied by)
  template <typename Visit>
  void ForEach(const StepContext& context, Visit&& visit) const {
    const bool scaled_in_training = dropout_.form == DropoutForm::kInverted;
    const double kept = context.training ? (scaled_in_training ? 1 / (1 - dropout_.rate) : 1)
                                         : (scaled_in_training ? 1 : 1 - dropout_.rate);
    const ChannelSlice& slice = site_.item.output;
    const int64_t rows = site_.x[0], channels = slice.count;
    const int64_t places = site_.x.count() / rows / channels;
    int64_t i = 0;
    for (int64_t n = 0; n < rows; ++n) {
      // Padding rows (position -1) have no draws; what they hold is never used.
      const int64_t position = context.training ? context.rows.positions.As<int64_t>()[n] : -1;
      const DropoutMask mask(context.seed, site_.item.uncut_index, context.epoch,
                             position < 0 ? 0 : position);
      for (int64_t place = 0; place < places; ++place) {
        for (int64_t c = 0; c < channels; ++c, ++i) {
          const int64_t element = place * slice.total + slice.begin + c;
          const bool keeps = !context.training || mask.Keeps(element, dropout_.rate);
          visit(i, keeps ? kept : 0);
        }
      }
    }
  }

  Dropout dropout_;
  Site site_;
};

}  // namespace

std::unique_ptr<OracleLayer> Make(const Dropout& dropout, const Site& site) {
  return std::make_unique<OracleDropout>(dropout, site);
}

}  // namespace convoy::oracle
