// comm/buckets.h - ranges of the gradient arena, reduced over ranks as soon as they are written.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "core/device/memory.h"
#include "core/device/stream.h"
#include "core/tensor/convert.h"
#include "core/tensor/tensor.h"

namespace convoy {

enum class Overlap {
  kOn,
  kOff
};  // kOff starts every reduction in Wait(): to measure what kOn hides

// A range of the gradient arena that is reduced as one.
struct Bucket {
  std::string name;  // "fc8+fc7"
  int64_t begin = 0, count = 0;
  Communicator* group = nullptr;  // whose sum it becomes
  // Each rank gets only the sum of its own part: of equal parts, in the ranks' order. The rest of
  // the range keeps what this rank gave. All of it is reduced if any of its gradients is announced.
  bool scatters = false;
};

struct BucketOptions {
  Overlap overlap = Overlap::kOn;
  // kBFloat16 halves the bytes and rounds, before and after the sum; ignored for fp64 gradients.
  DType wire = DType::kFloat32;
  // Where bf16 travels from: World::AllocateShared where there is a world.
  Allocator allocate_wire = AllocateHost;
  // Queues to = from, fp32 or bf16 to the other.
  std::function<void(Stream&, const Tensor& from, const Tensor& to)> convert =
      [](Stream&, const Tensor& from, const Tensor& to) { ConvertOnHost(from, to); };
};

// Buckets do not overlap; together they need not cover the arena. Per step: Begin, then
// GradientReady and WeightsReleased for every range that Begin announced, and Wait for every
// bucket, in the same order on all ranks. Ranges that were not announced are not reduced.
class GradientBuckets {
 public:
  GradientBuckets(std::vector<Bucket> buckets, const Tensor& gradients,
                  const BucketOptions& options);
  ~GradientBuckets();

  const std::vector<Bucket>& buckets() const { return buckets_; }

  struct Range {
    int64_t begin, count;
  };
  // Returns the ranges in order, joined if only the gap of an arena lies between them: each range
  // of the result travels as one.
  static std::vector<Range> Joined(std::vector<Range> ranges);
  // Announces the ranges that will be written in this step. Buckets without any are skipped. Of the
  // others, each is given to `finished` once, by its index, when all its announced gradients are
  // ready and all their weights released: Wait returns the sum, and the weights may be changed.
  void Begin(const std::vector<Range>& ranges, std::function<void(int)> finished = {});
  // Forgets a step that was queued in part and will be queued again.
  void Abandon();
  // Says that the gradients of a range are final once the work on `stream` so far is done. Starts
  // the reduction of a bucket with its last range. Throws (kDefect) if the range was not announced.
  void GradientReady(Stream& stream, int64_t begin, int64_t count);
  // Says that the weights of a range are not read again in this step by work queued later. Ranges
  // that were not announced do not count: frozen weights are released too.
  void WeightsReleased(int64_t begin, int64_t count);
  // Throws (kDefect) unless all announced gradients of bucket `index` are ready.
  void RequireReady(int index) const;
  // Work queued on `stream` after this call sees bucket `index` reduced.
  void Wait(Stream& stream, int index);

 private:
  struct State;
  void Start(Stream& stream, size_t index);
  void CallIfFinished(size_t index);

  std::vector<Bucket> buckets_;
  Tensor gradients_;
  BucketOptions options_;
  std::vector<State> states_;
  std::function<void(int)> finished_;
};

}  // namespace convoy
