// dataloader/loading/sample_worker.h - what one thread of a loader does: the rows of one position.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor/batch.h"
#include "dataloader/crops/crop_plan.h"
#include "dataloader/crops/crop_renderer.h"
#include "dataloader/dataset.h"
#include "dataloader/loader.h"
#include "dataloader/loader_report.h"

namespace convoy {

// Not thread-safe. What it writes is a function of the options and the key only.
class SampleWorker {
 public:
  // Both outlive the worker.
  SampleWorker(const Dataset& dataset, const LoaderOptions& options)
      : dataset_(dataset), options_(options) {}

  // Writes the options.crop.views crops of the sample at `key` to `pixels`, uint8 [views, crop,
  // crop, channels], and as many `rows`. Enters a bad sample into bad() and treats it by the
  // policy; throws (kData) if that fails.
  void Fill(const CropKey& key, double colour_strength, uint8_t* pixels, SampleInfo* rows);
  // Tells the system that Fill() will read the sample at `key` soon.
  void Announce(const CropKey& key) const;

  // Return what was found since the last Clear().
  const LoaderStatistics& statistics() const { return statistics_; }
  const std::vector<BadSample>& bad() const { return bad_; }
  void Clear();

 private:
  int64_t SampleAt(const CropKey& key) const;
  int64_t NextSubstitute(const CropKey& key, const std::vector<int64_t>& tried,
                         const BadSample& last) const;
  CropPlan Render(int64_t sample, const CropKey& key, uint8_t* pixels);

  const Dataset& dataset_;
  const LoaderOptions& options_;
  EncodedSample sample_;
  CropRenderer renderer_;
  LoaderStatistics statistics_;
  std::vector<BadSample> bad_;
};

}  // namespace convoy
