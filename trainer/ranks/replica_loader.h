// trainer/ranks/replica_loader.h - one replica's batches, decoded once: its towers each decode a
// part of the crops and exchange the uint8 pixels (150,528 bytes an image), instead of all decoding
// all.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "comm/grid.h"
#include "dataloader/dataset.h"
#include "dataloader/loader.h"

namespace convoy {

class ReplicaLoader {
 public:
  // `options.share` is set here from the grid. `grid` and `log` outlive the loader; `dataset` is
  // shared, see Loader::Make.
  ReplicaLoader(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options,
                ProcessGrid& grid, Log& log);

  // Rows of a batch: what the replica's network must hold.
  int64_t rows() const { return rows_; }
  int64_t batches_per_epoch() const { return loader_->batches_per_epoch(); }
  void Seek(int64_t epoch, int64_t index) { loader_->Seek(epoch, index); }

  // Takes this rank's part of the next batch. Not collective; throws what the loader throws.
  void Fetch();
  // What Exchange will give, where this rank has all of it already; else null.
  const Batch* Whole() const { return towers_.size() == 1 ? own_.get() : nullptr; }
  // Collective over the towers, after Fetch on each: the replica's batch, valid until the next
  // Fetch.
  const Batch& Exchange();

  Loader& loader() { return *loader_; }

 private:
  Communicator& towers_;
  std::unique_ptr<Loader> loader_;
  int64_t rows_ = 0;
  std::unique_ptr<Batch> own_;
  Batch replica_;  // of all towers; unused where there is one
};

}  // namespace convoy
