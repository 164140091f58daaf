#include "trainer/plan/rank_memory.h"

#include <algorithm>

#include "core/tensor/batch.h"
#include "layers/memory.h"

namespace convoy {
namespace {

// What the libraries take in a step, the program's code and oneDNN's scratchpad included: 20 to
// 45 MB were left over of what ranks of alexnet2012 use at a batch of 128, one to four on a host,
// with oneDNN 3.2 and Open MPI 4.1.
constexpr int64_t kLibraryBytes = 25'000'000;

// As RankModel allocates it: one block more than there are ranks, of the largest exchange. It is
// needed twice if a rank has nothing to add to a sum of gradients.
int64_t ExchangeBytes(const RankPlan& plan, const MemoryOptions& options) {
  int64_t elements = 0;
  for (const Stage& stage : plan.stages) {
    const auto* exchange = std::get_if<Exchange>(&stage);
    if (exchange == nullptr) continue;
    const int64_t blocks = plan.grid.RanksAlong(exchange->axes) + 1;
    elements = std::max(
        elements, blocks * exchange->shards_per_part * options.rows * exchange->PartCapacity());
  }
  const int64_t times = plan.HasSegmentAfterEverySum() ? 1 : 2;
  return times * elements * SizeOf(options.dtype);
}

}  // namespace

std::vector<MemoryUse> MemoryOf(const RankPlan& plan, const std::vector<BucketRange>& buckets,
                                const MemoryOptions& options) {
  const int64_t parameters = plan.ParameterLayout().count();
  const int64_t master = SizeOf(DType::kFloat32), type = SizeOf(options.dtype);
  std::vector<MemoryUse> uses;
  const auto add = [&](const char* name, int64_t bytes) {
    if (bytes > 0) uses.push_back({name, bytes});
  };
  add("parameters", parameters * master);
  add("gradients", parameters * master);
  add("optimiser states", options.optimizer_states * StateCountOf(plan) * master);
  if (options.dtype == DType::kBFloat16) add("parameters in bf16", parameters * type);
  add("buffers of layers", plan.BufferLayout().count() * master);
  if (options.reduce_dtype == DType::kBFloat16) {
    int64_t elements = 0;
    for (const BucketRange& bucket : buckets) {
      if (plan.grid.RanksAlong(bucket.axes) > 1) elements += bucket.count;
    }
    add("gradients that travel as bf16", elements * SizeOf(DType::kBFloat16));
  }
  SegmentMemory segments;
  for (const Stage& stage : plan.stages) {
    const auto* segment = std::get_if<SegmentPlan>(&stage);
    if (segment == nullptr) continue;
    const SegmentMemory one = MemoryOf(segment->spec, {.dtype = options.dtype,
                                                       .batch = segment->shards * options.rows,
                                                       .accumulates = options.micro_batches > 1});
    segments.activations += one.activations;
    segments.gradients += one.gradients;
    segments.maxima += one.maxima;
    segments.weights += one.weights;
  }
  add("activations", segments.activations);
  add("gradients of activations", segments.gradients);
  add("places of maxima", segments.maxima);
  add("weights of convolutions", segments.weights);
  add("exchange of activations", ExchangeBytes(plan, options));
  add("a batch of images",
      options.rows * (plan.network.input.count() + static_cast<int64_t>(sizeof(SampleInfo))));
  add("libraries, as measured", kLibraryBytes);
  return uses;
}

}  // namespace convoy
