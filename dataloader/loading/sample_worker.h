// dataloader/loading/sample_worker.h - what one thread of a loader does: the rows of one position.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/tensor/crop_finisher.h"
#include "dataloader/crops/crop_plan.h"
#include "dataloader/crops/crop_renderer.h"
#include "dataloader/dataset.h"
#include "dataloader/loader.h"
#include "dataloader/loader_report.h"

namespace convoy {

// Not thread-safe; what it fills is a function of the options and the key alone.
class SampleWorker {
 public:
  // Both outlive the worker.
  SampleWorker(const Dataset& dataset, const LoaderOptions& options);

  // Writes the views of the sample at `key` to `values` (uint8 crops, or what options.finish asks
  // for) and `rows`, both of options.crop.views. A bad sample is entered into bad() and treated by
  // the policy. Throws (kData) where that fails.
  void Fill(const CropKey& key, double colour_strength, void* values, SampleInfo* rows);
  // Tells the system that Fill() will read the sample at `key` soon.
  void Announce(const CropKey& key) const;

  // Since the last Clear().
  const LoaderStatistics& statistics() const { return statistics_; }
  const std::vector<BadSample>& bad() const { return bad_; }
  void Clear();

 private:
  int64_t SampleAt(const CropKey& key) const;
  int64_t NextSubstitute(const CropKey& key, const std::vector<int64_t>& tried,
                         const BadSample& last) const;
  CropPlan Render(int64_t sample, const CropKey& key, uint8_t* pixels);
  // The views from crops_ to `values`, as options.finish asks for.
  void Finish(const SampleInfo* rows, void* values);

  const Dataset& dataset_;
  const LoaderOptions& options_;
  EncodedSample sample_;
  CropRenderer renderer_;
  // Where crops are to be finished: the formula, and the crops before it.
  std::optional<CropFinisher> finisher_;
  CropFinisher::Scratch scratch_;
  std::vector<uint8_t> crops_;
  int64_t jpegs_ = 0;
  LoaderStatistics statistics_;
  std::vector<BadSample> bad_;
};

}  // namespace convoy
