#include "trainer/ranks/replica_loader.h"

#include <utility>

namespace convoy {
namespace {

Tensor BytesOf(std::vector<SampleInfo>& samples) {
  return {samples.data(), DType::kUInt8,
          Shape{static_cast<int64_t>(samples.size() * sizeof(SampleInfo))}};
}

LoaderOptions WithShare(LoaderOptions options, const ProcessGrid& grid) {
  options.share = {.replica = grid.replica(),
                   .replicas = grid.shape().replicas,
                   .member = grid.tower(),
                   .members = grid.shape().towers};
  return options;
}

}  // namespace

ReplicaLoader::ReplicaLoader(std::shared_ptr<const Dataset> dataset, const LoaderOptions& options,
                             ProcessGrid& grid, Log& log)
    : towers_(grid.host_towers()),
      loader_(Loader::Make(std::move(dataset), WithShare(options, grid), log)) {
  rows_ = loader_->rows() * towers_.size();
  if (towers_.size() == 1) return;
  replica_.shape = Shape{rows_, options.crop.crop, options.crop.crop, options.crop.channels};
  replica_.pixels = options.allocator(replica_.shape.count());
  replica_.samples.resize(static_cast<size_t>(rows_));
}

void ReplicaLoader::Fetch() {
  if (own_) loader_->Recycle(std::move(own_));
  own_ = loader_->Next();
}

const Batch& ReplicaLoader::Exchange() {
  CONVOY_CHECK(own_ != nullptr, "Exchange without Fetch");
  if (towers_.size() == 1) return *own_;
  replica_.epoch = own_->epoch;
  replica_.index = own_->index;
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
