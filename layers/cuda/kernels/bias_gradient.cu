// The gradient of a bias: the sum of dy over all places. Sums of 8 places in fp32, of those in
// fp64. Bytes per value: 2 or 4 read; 1 flop. The sums of the parts are some 8 bytes more per part
// of about a hundred places.
#include "core/cuda/runtime.h"
#include "layers/cuda/kernels/channel_sums.h"
#include "layers/cuda/kernels/operations.h"
#include "layers/cuda/kernels/product_kernels.h"

namespace convoy::cuda {
namespace {

template <typename T, int kVector>
struct BiasTerms {
  static constexpr int kSums = 1, kWidth = kVector;
  using Sum = float;

  const T* dy;
  int32_t channels;

  CONVOY_HOST_DEVICE void Add(int32_t place, int32_t channel, float* sums) const {
    float values[kWidth];
    LoadVector<kWidth>(dy + (place * channels + channel), values);
    for (int k = 0; k < kWidth; ++k) sums[k] += values[k];
  }
};

struct AddPartsKernel {
  const double* part_sums;
  int32_t parts;
  float* db;
  bool adds;

  CONVOY_DEVICE void operator()(int32_t channel, Group& group) const {
    const double sum = AddParts(part_sums + int64_t{channel} * parts, parts, group);
    if (group.rank() == 0) db[channel] = static_cast<float>(sum) + (adds ? db[channel] : 0.0f);
  }
};

struct AddKernel {
  const float* from;
  float* to;
  CONVOY_HOST_DEVICE void operator()(int32_t i) const { to[i] += from[i]; }
};

// Part sums of `dy` are made by `columns` threads side by side.
template <typename Visit>
void ForColumns(const Tensor& dy, Visit&& visit) {
  const int64_t channels = dy.shape.back();
  ForType(dy.dtype, [&](auto type) {
    using T = decltype(type);
    ForWidth<T>(channels, [&](auto width) {
      const int64_t columns = channels / width;
      visit(type, width, columns, PlaceParts(dy.count() / channels, columns));
    });
  });
}

}  // namespace

BiasGradient::BiasGradient(const Tensor& dy, const Tensor& db, int device) : dy_(dy), db_(db) {
  CheckedCount(dy.count());
  CONVOY_CHECK(dy.shape.back() == db.count(), "{} and {}", dy.shape.ToString(), db.count());
  ForColumns(dy, [&](auto, auto, int64_t, const PlaceParts& parts) {
    sums_ = AllocateDevice(device, db.count() * parts.parts() * SizeOf(DType::kFloat64));
  });
}

void BiasGradient::Run(Stream& stream, bool adds) {
  const int64_t channels = db_.count();
  auto* const sums = static_cast<double*>(sums_.data());
  ForColumns(dy_, [&](auto type, auto width, int64_t columns, const PlaceParts& parts) {
    using T = decltype(type);
    using Terms = BiasTerms<T, decltype(width)::value>;
    ForEach(stream, columns * parts.parts(),
            SumPartsKernel<Terms>{
                .terms = {.dy = dy_.As<T>(), .channels = static_cast<int32_t>(channels)},
                .parts = parts,
                .columns = Divider(columns),
                .part_sums = sums});
    ForEachGroup(
        stream, channels,
        AddPartsKernel{
            .part_sums = sums, .parts = parts.parts(), .db = db_.As<float>(), .adds = adds});
  });
}

void AddGradient(Stream& stream, const Tensor& from, const Tensor& to) {
  CONVOY_CHECK(from.count() == to.count(), "{} and {}", from.shape.ToString(), to.shape.ToString());
  ForEach(stream, to.count(), AddKernel{.from = from.As<float>(), .to = to.As<float>()});
}

}  // namespace convoy::cuda
