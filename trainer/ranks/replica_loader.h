// trainer/ranks/replica_loader.h - one replica's batches, decoded once: its towers each decode a
// part of the crops and exchange the uint8 pixels (150,528 bytes an image), instead of all decoding
// all.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "comm/world.h"
#include "dataloader/bad_samples.h"
#include "dataloader/dataset.h"
#include "dataloader/loader.h"

namespace convoy {

// What options.bad_sample_limit is held against.
enum class BadSamplesCounted {
  kByRank,       // what this rank finds: Fetch throws
  kOverAllRanks  // what all ranks find: CountBadSamples throws, after every Fetch
};

class ReplicaLoader {
 public:
  // `options.share` is set here from the grid. `grid` and `log` outlive the loader; `dataset` is
  // shared, see Loader::Make.
  ReplicaLoader(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options,
                ProcessGrid& grid, Log& log,
                BadSamplesCounted counted = BadSamplesCounted::kByRank);

  // Rows of a batch: what this rank's network must hold.
  int64_t rows() const { return rows_; }
  int64_t batches_per_epoch() const { return loader_->batches_per_epoch(); }
  // Makes the next batch the first one of global batch `index` of `epoch`.
  void Seek(int64_t epoch, int64_t index);

  // Takes this rank's part of the next batch. Not collective; throws what the loader throws.
  void Fetch();
  // Bad samples in this rank's part of the batch that was fetched last. Each image of a batch is
  // one rank's.
  int64_t bad_samples() const { return CountBadPositions(bad_in_batch_); }
  // Enters the bad samples of the whole batch, bad_samples() summed over all ranks, into the count
  // of the epoch. Collective over the world. Throws (kData) an AgreedError if they are too many.
  void CountBadSamples(World& world, int64_t of_all_ranks);
  // This rank's, of the batches fetched since the last call, in the order of their positions.
  std::vector<BadSample> TakeBadSamples() { return std::exchange(bad_, {}); }

  // What Exchange will give, if this rank has all of it already; else null.
  const Batch* Whole() const { return towers_.size() == 1 ? own_.get() : nullptr; }
  // Collective over the towers, after Fetch on each: the replica's batch, valid until the next
  // Fetch.
  const Batch& Exchange();

  const Loader& loader() const { return *loader_; }

 private:
  Communicator& towers_;
  std::unique_ptr<Loader> loader_;
  int micro_batches_ = 1;  // of a full global batch
  int64_t rows_ = 0;
  std::unique_ptr<Batch> own_;
  std::vector<BadSample> bad_in_batch_, bad_;
  BadSampleCount bad_in_epoch_;  // of all ranks
  Batch replica_;                // of all towers; unused if there is one
};

}  // namespace convoy
