// dataloader/loader.h - global batch k of epoch e, decoded and cropped by a pool of threads.
//
// The samples of batch k and every random choice in them are a function of (seed, epoch, k): not of
// threads, ranks, queue length or the form of the archive.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/device/memory.h"
#include "core/host/log.h"
#include "core/tensor/batch.h"
#include "dataloader/bad_samples.h"
#include "dataloader/crop_options.h"
#include "dataloader/dataset.h"
#include "dataloader/loader_report.h"

namespace convoy {

enum class Order { kShuffled, kSequential };

// Which rows of every global batch a loader fills. A global batch of n samples is cut into
// `replicas` runs of n / replicas samples (the first ones shorter where it does not divide), and a
// replica's run into pieces of Rows() samples for its `members`, who exchange their rows: joined in
// the members' order, the pieces are the run with all padding behind it. Every batch has Rows()
// rows; those past the run's end are padding (weight 0).
struct Share {
  int replica = 0, replicas = 1;
  int member = 0, members = 1;

  // Images of a batch that one member decodes, padding included.
  int64_t Rows(int64_t global_batch) const;
  // First and last + 1 sample, counted in the global batch of n <= global_batch samples, of this
  // member.
  std::pair<int64_t, int64_t> Range(int64_t global_batch, int64_t n) const;
};

struct LoaderOptions {
  uint64_t seed = 0;
  Order order = Order::kShuffled;
  int64_t global_batch = 128;  // images
  Share share;
  CropOptions crop;
  int threads = 1;
  int queue = 3;  // batches ready or in work ahead of the consumer
  BadSamplePolicy bad_samples = BadSamplePolicy::kSubstitute;
  // More bad samples than BadSampleLimit() makes of this in one epoch are an error (kData), counted
  // only by this loader. Ranks that share the batches have to add up what they find.
  std::optional<int64_t> bad_sample_limit;
  // Bytes of images that the system is told of before they are needed: hides a slow disk.
  int64_t read_ahead_bytes = 64'000'000;
  // Of pixel memory: pinned if a device wants it. The loader's threads call it.
  Allocator allocator = AllocateHost;
};

class Loader {
 public:
  // The loader's threads read from `dataset` until the loader is destroyed, so the loader owns it
  // together with the caller. What the functions in `options` use must live as long. `log` outlives
  // the loader; only Next() writes to it. Throws (kUsage) for options that contradict each other.
  static std::unique_ptr<Loader> Make(std::shared_ptr<const Dataset> dataset,
                                      const LoaderOptions& options, Log& log);
  virtual ~Loader() = default;

  virtual int64_t batches_per_epoch() const = 0;
  // Rows of every batch: share.Rows(global_batch) * views. The views of one image are neighbours.
  virtual int64_t rows() const = 0;

  // The next Next() gives batch `index` of `epoch`; the one after the last of an epoch is the first
  // of the next. A loader starts at (0, 0), and begins to read with the first Seek() or Next().
  // Cheap: nothing is read to get there.
  virtual void Seek(int64_t epoch, int64_t index) = 0;
  // Blocks until the batch is ready. Errors of the threads surface here.
  virtual std::unique_ptr<Batch> Next() = 0;
  // Gives the memory of a batch back for another one.
  virtual void Recycle(std::unique_ptr<Batch> batch) = 0;

  virtual LoaderStatistics statistics() const = 0;
  // Of the batches that Next() gave since the last call, in the order of their positions.
  virtual std::vector<BadSample> TakeBadSamples() = 0;
};

}  // namespace convoy
