#include <omp.h>

#include <algorithm>

#include "layers/cpu/numbers.h"
#include "layers/cpu/operation.h"

namespace convoy::cpu {
namespace {

// So many places are summed in fp32 before the sum is added to the fp64 one: few enough to lose
// nothing, enough to make the wide additions cheap.
constexpr int64_t kBlock = 16;
// Channels that are summed at a time, in registers.
constexpr int64_t kLanes = 32;

// sums[c] += the sum of dy[place, c] over a few places, for `lanes` <= kLanes channels.
template <typename T>
void AddBlock(const T* dy, int64_t places, int64_t channels, int64_t lanes, double* sums) {
  float block[kLanes] = {};
  for (int64_t place = 0; place < places; ++place) {
    const T* row = dy + place * channels;
#pragma omp simd
    for (int64_t c = 0; c < lanes; ++c) block[c] += Load(row + c);
  }
#pragma omp simd
  for (int64_t c = 0; c < lanes; ++c) sums[c] += static_cast<double>(block[c]);
}

template <typename T>
void AddPlaces(const T* dy, int64_t channels, const Part& part, double* sums) {
  for (int64_t begin = part.begin; begin < part.end; begin += kBlock) {
    const int64_t places = std::min(kBlock, part.end - begin);
    const T* block = dy + begin * channels;
    int64_t c = 0;
    // A constant number of lanes stays in registers.
    for (; c + kLanes <= channels; c += kLanes) {
      AddBlock(block + c, places, channels, kLanes, sums + c);
    }
    if (c < channels) AddBlock(block + c, places, channels, channels - c, sums + c);
  }
}

}  // namespace

BiasGradient::BiasGradient(const Tensor& dy, const Tensor& db, int threads)
    : dy_(dy),
      db_(db),
      threads_(threads),
      sums_(AllocateHost(threads * db.count() * SizeOf(DType::kFloat64))) {}

void BiasGradient::Compute(bool adds) {
  const int64_t channels = db_.count();
  const int64_t places = dy_.count() / channels;
  auto* const sums = static_cast<double*>(sums_.data());
  std::fill_n(sums, threads_ * channels, 0.0);
  ForType(dy_.dtype, [&](auto type) {
    const auto* dy = dy_.As<decltype(type)>();
#pragma omp parallel num_threads(threads_)
    {
      const int thread = omp_get_thread_num();
      AddPlaces(dy, channels, PartOf(places, thread, omp_get_num_threads()),
                sums + thread * channels);
    }
  });
  float* db = db_.As<float>();
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0;
    for (int thread = 0; thread < threads_; ++thread) sum += sums[thread * channels + c];
    db[c] = static_cast<float>(sum) + (adds ? db[c] : 0);
  }
}

}  // namespace convoy::cpu
