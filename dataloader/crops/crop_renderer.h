// dataloader/crops/crop_renderer.h - from the bytes of a sample to its crops.
#pragma once

#include <array>
#include <cstdint>

#include "dataloader/crops/crop_plan.h"
#include "dataloader/dataset.h"
#include "dataloader/images/image.h"
#include "dataloader/images/resize.h"

namespace convoy {

// Makes the crops of one sample after another, by one thread. After a few samples it allocates
// nothing.
class CropRenderer {
 public:
  explicit CropRenderer(ReadOrientation orientation = ReadOrientation::kNo)
      : decoder_(orientation) {}

  // Reads the header. Throws (kData), as Render() does. `sample` stays unchanged until Render().
  const ImageInfo& Open(const EncodedSample& sample);
  // Writes uint8 [plan.views, height, width, channels] to `out`. Decodes only what the crops need.
  // Mirrors nothing: the device does that.
  void Render(const CropPlan& plan, int width, int height, int channels, uint8_t* out);

  // Return the seconds of the last Open() and Render().
  double decode_s() const { return decode_s_; }
  double resize_s() const { return resize_s_; }

 private:
  // The most views that show pixels of their own; mirrored ones do not.
  static constexpr int kMostPlaces = 5;

  ImageDecoder decoder_;
  RowDecoder* image_ = nullptr;  // the one that was opened last
  RowRing ring_;
  std::array<AxisFilter, kMostPlaces> horizontal_, vertical_;
  std::array<RowResampler, kMostPlaces> resamplers_;
  double decode_s_ = 0, resize_s_ = 0;
};

}  // namespace convoy
