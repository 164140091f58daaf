#include "dataloader/crops/crop_renderer.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/host/clock.h"

namespace convoy {
namespace {

// Rows that are decoded in one call: a few blocks of JPEG, which are still in the cache when they
// are resized.
constexpr int kRowsAtATime = 16;

// Adds up the time since the last call.
class Stopwatch {
 public:
  void Into(double& seconds) {
    const Clock::time_point now = Clock::now();
    seconds += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  Clock::time_point last_ = Clock::now();
};

}  // namespace

const ImageInfo& CropRenderer::Open(const EncodedSample& sample) {
  decode_s_ = resize_s_ = 0;
  Stopwatch stopwatch;
  image_ = &decoder_.Open(sample);
  stopwatch.Into(decode_s_);
  return image_->info();
}

void CropRenderer::Render(const CropPlan& plan, int width, int height, int channels, uint8_t* out) {
  const int places = std::min(plan.views, kMostPlaces);
  CONVOY_CHECK(plan.views == places || plan.views == 2 * places, "{} views", plan.views);
  const int64_t view_bytes = int64_t{width} * height * channels;
  Stopwatch stopwatch;
  Window window{plan.region.x + plan.region.width, plan.region.y + plan.region.height, 0, 0};
  int most_taps = 0;
  for (size_t i = 0; i < static_cast<size_t>(places); ++i) {
    AxisFilter &horizontal = horizontal_[i], &vertical = vertical_[i];
    horizontal.Build(plan.region.width, plan.resized_width, plan.places[i].x, width);
    vertical.Build(plan.region.height, plan.resized_height, plan.places[i].y, height);
    window.x0 = std::min(window.x0, plan.region.x + horizontal.begin());
    window.x1 = std::max(window.x1, plan.region.x + horizontal.end());
    window.y0 = std::min(window.y0, plan.region.y + vertical.begin());
    window.y1 = std::max(window.y1, plan.region.y + vertical.end());
    most_taps = std::max(most_taps, vertical.taps());
  }
  stopwatch.Into(resize_s_);
  image_->Start(window, channels, plan.dct_scale);
  // Filters count from the region's corner.
  const int first_column = image_->first_column() - plan.region.x;
  ring_.Configure(int64_t{image_->columns()} * image_->pixel_bytes(), most_taps + kRowsAtATime);
  for (size_t i = 0; i < static_cast<size_t>(places); ++i) {
    resamplers_[i].Start(horizontal_[i], vertical_[i], first_column, image_->pixel_bytes(),
                         channels, out + static_cast<int64_t>(i) * view_bytes);
  }
  for (int y = window.y0; y < window.y1;) {
    const int count = std::min(kRowsAtATime, window.y1 - y);
    uint8_t* rows[kRowsAtATime];
    for (int i = 0; i < count; ++i) rows[i] = ring_.Row(y - plan.region.y + i);
    image_->ReadRows(rows, count);
    y += count;
    stopwatch.Into(decode_s_);
    for (size_t i = 0; i < static_cast<size_t>(places); ++i) {
      resamplers_[i].Advance(ring_, y - plan.region.y);
    }
    stopwatch.Into(resize_s_);
  }
  for (int i = 0; i < places; ++i) CONVOY_CHECK(resamplers_[static_cast<size_t>(i)].done());
  if (plan.views > places) {
    std::memcpy(out + places * view_bytes, out, static_cast<size_t>(places * view_bytes));
  }
}

}  // namespace convoy
