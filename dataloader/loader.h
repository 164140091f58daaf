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
// `replicas` runs of n / replicas samples (the first ones are shorter if that leaves a remainder).
// A replica's run is cut into pieces of Rows() samples for its `members`, who exchange their rows:
// joined in the members' order, the pieces are the run with all padding after it. Every batch has
// Rows() rows; those past the run's end are padding (weight 0).
struct Share {
  int replica = 0, replicas = 1;
  int member = 0, members = 1;

  // Returns the images of a batch that one member decodes, padding included.
  int64_t Rows(int64_t global_batch) const;
  // Returns this member's first sample and its last + 1, counted in the global batch of n <=
  // global_batch samples.
  std::pair<int64_t, int64_t> Range(int64_t global_batch, int64_t n) const;
};

struct LoaderOptions {
  uint64_t seed = 0;
  Order order = Order::kShuffled;
  int64_t global_batch = 128;  // images
  // A global batch is delivered in up to so many batches of the same size; the last one may be
  // short, and those that would be empty are left out.
  int micro_batches = 1;
  Share share;

  // Returns the images of a micro-batch over all ranks.
  int64_t MicroBatchSize() const { return (global_batch + micro_batches - 1) / micro_batches; }
  // Returns how many micro-batches a global batch of n <= global_batch samples has.
  int MicroBatchesOf(int64_t n) const {
    return static_cast<int>((n + MicroBatchSize() - 1) / MicroBatchSize());
  }
  CropOptions crop;
  int threads = 1;
  int queue = 3;  // batches ready or in work ahead of the consumer
  BadSamplePolicy bad_samples = BadSamplePolicy::kSubstitute;
  // If one epoch has more bad samples than BadSampleLimit() makes of this, that is an error
  // (kData). Only this loader's samples count: ranks that share the batches have to add up what
  // they find.
  std::optional<int64_t> bad_sample_limit;
  // How many bytes of images the system is told about before they are needed. This hides a slow
  // disk.
  int64_t read_ahead_bytes = 64'000'000;
  // Allocates pixel memory: pinned if a device wants that. The loader's threads call it.
  Allocator allocator = AllocateHost;
};

class Loader {
 public:
  // Makes a loader. Its threads read from `dataset` until the loader is destroyed, so the loader
  // owns the data set together with the caller. What the functions in `options` use must live as
  // long. `log` outlives the loader; only Next() writes to it. Throws (kUsage) for options that
  // contradict each other.
  static std::unique_ptr<Loader> Make(std::shared_ptr<const Dataset> dataset,
                                      const LoaderOptions& options, Log& log);
  virtual ~Loader() = default;

  // Micro-batches, if a global batch has several.
  virtual int64_t batches_per_epoch() const = 0;
  // Returns the rows of every batch: share.Rows(images of a micro-batch) * views. The views of one
  // image are neighbours.
  virtual int64_t rows() const = 0;

  // Makes the next Next() give batch `index` of `epoch`. After the last batch of an epoch comes the
  // first of the next. A loader starts at (0, 0), and begins to read with the first Seek() or
  // Next(). Seeking is cheap: it reads nothing.
  virtual void Seek(int64_t epoch, int64_t index) = 0;
  // Waits until the batch is ready and returns it. Throws the errors of the threads.
  virtual std::unique_ptr<Batch> Next() = 0;
  // Takes the memory of a batch back for another one.
  virtual void Recycle(std::unique_ptr<Batch> batch) = 0;

  virtual LoaderStatistics statistics() const = 0;
  // Returns those of the batches that Next() gave since the last call, in the order of their
  // positions.
  virtual std::vector<BadSample> TakeBadSamples() = 0;
};

}  // namespace convoy
