#include "trainer/ranks/replica_loader.h"

#include <utility>

#include "trainer/ranks/agreement.h"

namespace convoy {
namespace {

Tensor BytesOf(std::vector<SampleInfo>& samples) {
  return {samples.data(), DType::kUInt8,
          Shape{static_cast<int64_t>(samples.size() * sizeof(SampleInfo))}};
}

LoaderOptions OwnOptions(LoaderOptions options, const ProcessGrid& grid,
                         BadSamplesCounted counted) {
  if (counted == BadSamplesCounted::kOverAllRanks) options.bad_sample_limit = kNoBadSampleLimit;
  const GridShape& shape = grid.shape();
  options.share = {.replica = shape.RankAlong(Axis::kReplica | Axis::kShard, grid.place()),
                   .replicas = shape.row_parts(),
                   .member = grid.place().tower,
                   .members = shape.towers};
  return options;
}

}  // namespace

ReplicaLoader::ReplicaLoader(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options,
                             ProcessGrid& grid, Log& log, BadSamplesCounted counted)
    : towers_(grid.HostAlong(Axis::kTower)),
      micro_batches_(options.MicroBatchesOf(options.global_batch)),
      bad_in_epoch_(BadSampleLimit(options.bad_sample_limit, dataset->size())) {
  loader_ = Loader::Make(std::move(dataset), OwnOptions(options, grid, counted), log);
  rows_ = loader_->rows() * towers_.size();
  if (towers_.size() == 1) return;
  replica_.shape = Shape{rows_, options.crop.crop, options.crop.crop, options.crop.channels};
  replica_.pixels = options.allocator(replica_.shape.count());
  replica_.samples.resize(static_cast<size_t>(rows_));
}

void ReplicaLoader::Seek(int64_t epoch, int64_t index) {
  loader_->Seek(epoch, index * micro_batches_);
  bad_in_epoch_.Restart();
}

void ReplicaLoader::Fetch() {
  if (own_) loader_->Recycle(std::move(own_));
  const auto take_bad_samples = [this] {
    bad_in_batch_ = loader_->TakeBadSamples();
    bad_.insert(bad_.end(), bad_in_batch_.begin(), bad_in_batch_.end());
  };
  try {
    own_ = loader_->Next();
  } catch (...) {
    take_bad_samples();
    throw;
  }
  take_bad_samples();
}

void ReplicaLoader::CountBadSamples(World& world, int64_t of_all_ranks) {
  CONVOY_CHECK(own_ != nullptr, "CountBadSamples without Fetch");
  bad_in_epoch_.Add(own_->epoch, of_all_ranks);
  if (of_all_ranks == 0 || !bad_in_epoch_.TooMany()) return;
  RunTogether(world, [&] {
    if (!bad_in_batch_.empty()) throw bad_in_epoch_.TooManyError(bad_in_batch_.back());
  });
}

const Batch& ReplicaLoader::Exchange() {
  CONVOY_CHECK(own_ != nullptr, "Exchange without Fetch");
  if (towers_.size() == 1) return *own_;
  replica_.epoch = own_->epoch;
  replica_.index = own_->index;
  replica_.micro = own_->micro;
  replica_.global_count = own_->global_count;
  replica_.colour_scale = own_->colour_scale;
  HostStream stream;
  const int64_t own_bytes = own_->shape.count();
  Request pixels = towers_.AllGather(
      stream, {own_->pixels.data(), DType::kUInt8, Shape{own_bytes}},
      {replica_.pixels.data(), DType::kUInt8, Shape{towers_.size(), own_bytes}}, "crops");
  const Tensor own_samples = BytesOf(own_->samples);
  Request samples = towers_.AllGather(
      stream, own_samples,
      BytesOf(replica_.samples).Reshape(own_samples.shape.Prepend(towers_.size())), "samples");
  pixels.Wait(stream);
  samples.Wait(stream);
  return replica_;
}

}  // namespace convoy
