// The optimiser's pass. Bytes per parameter: 12 read (w, v, g), 8 written, 2 more where there is a
// bf16 copy; 5 flops.
#include <algorithm>
#include <bit>
#include <span>

#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/operations.h"

namespace convoy::cuda {
namespace {

constexpr int kWidth = 4;
// Parameters that a group of threads updates.
constexpr int32_t kChunk = 4096;
// Ranges of one launch; their places are arguments of the kernel.
constexpr int kMaxRanges = 512;

// Values of UpdateRequest::non_finite. What is found becomes kNonFinite after the launch, so that
// all of its parameters are updated or none, whichever group comes first.
constexpr int32_t kNonFinite = 1, kFoundNow = 2;

struct PaperRule {
  CONVOY_HOST_DEVICE static void Apply(const DeviceUpdateRange& range, float g, float& w,
                                       float& v) {
    v = range.momentum * v - range.lr * (range.weight_decay * w + g);
    w += v;
  }
};
struct TorchRule {
  CONVOY_HOST_DEVICE static void Apply(const DeviceUpdateRange& range, float g, float& w,
                                       float& v) {
    v = range.momentum * v + (g + range.weight_decay * w);
    w -= range.lr * v;
  }
};

CONVOY_HOST_DEVICE inline bool IsFinite(float value) {
  constexpr uint32_t kExponent = 0x7F800000;
  return (std::bit_cast<uint32_t>(value) & kExponent) != kExponent;
}

// Which chunk is the first of every range.
struct ChunkTable {
  int32_t first_chunks[kMaxRanges];
  int32_t range_count;

  // The last range that starts at `chunk` or before: of several that start there, all but the last
  // are empty.
  CONVOY_HOST_DEVICE int32_t RangeOf(int32_t chunk) const {
    int32_t low = 0, high = range_count;
    while (high - low > 1) {
      const int32_t middle = (low + high) / 2;
      (first_chunks[middle] <= chunk ? low : high) = middle;
    }
    return low;
  }
};

template <typename Rule>
struct UpdateKernel {
  float* w;
  float* v;
  const float* g;
  BFloat16* copy;  // null where there is none
  int32_t* non_finite;
  const DeviceUpdateRange* ranges;
  ChunkTable table;

  CONVOY_DEVICE void operator()(int32_t chunk, Group& group) const {
    if (*non_finite == kNonFinite) return;
    const int32_t r = table.RangeOf(chunk);
    const DeviceUpdateRange range = ranges[r];
    if (range.lr == 0) return;
    const int64_t begin = range.begin + int64_t{chunk - table.first_chunks[r]} * kChunk;
    const int64_t left = range.begin + range.count - begin;
    const auto count = static_cast<int32_t>(left < kChunk ? left : kChunk);
    const bool is_aligned = begin % kWidth == 0;
    bool is_finite = true;
    for (int32_t i = group.rank() * kWidth; i < count; i += group.size() * kWidth) {
      if (is_aligned && i + kWidth <= count) {
        is_finite &= Update<kWidth>(range, begin + i);
      } else {
        for (int k = 0; k < kWidth && i + k < count; ++k) {
          is_finite &= Update<1>(range, begin + i + k);
        }
      }
    }
    if (!is_finite) *non_finite = kFoundNow;
  }

  // Returns whether all was finite.
  template <int kCount>
  CONVOY_HOST_DEVICE bool Update(const DeviceUpdateRange& range, int64_t at) const {
    float weights[kCount], velocities[kCount], gradients[kCount];
    LoadVector<kCount>(w + at, weights);
    LoadVector<kCount>(v + at, velocities);
    LoadVector<kCount>(g + at, gradients);
    bool is_finite = true;
    for (int k = 0; k < kCount; ++k) {
      Rule::Apply(range, gradients[k], weights[k], velocities[k]);
      is_finite &= IsFinite(gradients[k]) & IsFinite(weights[k]);
    }
    StoreVector<kCount>(weights, w + at);
    StoreVector<kCount>(velocities, v + at);
    if (copy != nullptr) StoreVector<kCount>(weights, copy + at);
    return is_finite;
  }
};

struct SettleKernel {
  int32_t* non_finite;
  CONVOY_HOST_DEVICE void operator()(int32_t) const {
    if (*non_finite == kFoundNow) *non_finite = kNonFinite;
  }
};

template <typename Rule>
void UpdateRanges(Stream& stream, const UpdateRequest& request, std::span<const UpdateRange> ranges,
                  const DeviceUpdateRange* device_ranges) {
  const bool has_copy = request.compute.data != request.parameters.data;
  UpdateKernel<Rule> kernel{.w = request.parameters.As<float>(),
                            .v = request.states.at(0).As<float>(),
                            .g = request.gradients.As<float>(),
                            .copy = has_copy ? request.compute.As<BFloat16>() : nullptr,
                            .non_finite = request.non_finite.As<int32_t>(),
                            .ranges = device_ranges,
                            .table = {.range_count = static_cast<int32_t>(ranges.size())}};
  int64_t chunks = 0;
  for (size_t r = 0; r < ranges.size(); ++r) {
    kernel.table.first_chunks[r] = CheckedCount(chunks);
    chunks += (ranges[r].count + kChunk - 1) / kChunk;
  }
  if (chunks == 0) return;
  ForEachGroup(stream, chunks, kernel);
}

}  // namespace

void UpdateParameters(Stream& stream, const UpdateRequest& request,
                      const DeviceUpdateRange* device_ranges) {
  for (size_t first = 0; first < request.ranges.size(); first += kMaxRanges) {
    const auto ranges =
        request.ranges.subspan(first, std::min<size_t>(kMaxRanges, request.ranges.size() - first));
    if (request.rule == UpdateRule::kPaper) {
      UpdateRanges<PaperRule>(stream, request, ranges, device_ranges + first);
    } else {
      UpdateRanges<TorchRule>(stream, request, ranges, device_ranges + first);
    }
  }
  ForEach(stream, 1, SettleKernel{.non_finite = request.non_finite.As<int32_t>()});
}

}  // namespace convoy::cuda
