// dataloader/sample_worker.h - what one thread of a loader does: the rows of one position.
#pragma once

#include <cstdint>
#include <vector>

#include "dataloader/crop_plan.h"
#include "dataloader/crop_renderer.h"
#include "dataloader/dataloader.h"

namespace convoy {

// Not thread-safe; what it fills is a function of the options and the key alone.
class SampleWorker {
 public:
  // Both outlive the worker.
  SampleWorker(const Dataset& dataset, const LoaderOptions& options);

  // Writes the views of the sample at `key` to `pixels` and `rows`, both of options.crop.views. A
  // bad sample is entered into bad() and treated by the policy. Throws (kData) where that fails.
  void Fill(const CropKey& key, double colour_strength, uint8_t* pixels, SampleInfo* rows);

  // Since the last Clear().
  const LoaderStatistics& statistics() const { return statistics_; }
  const std::vector<BadSample>& bad() const { return bad_; }
  void Clear();

 private:
  CropPlan Render(int64_t sample, const CropKey& key, uint8_t* pixels);

  const Dataset& dataset_;
  const LoaderOptions& options_;
  EncodedSample sample_;
  CropRenderer renderer_;
  LoaderStatistics statistics_;
  std::vector<BadSample> bad_;
};

}  // namespace convoy
