// The optimiser's pass. Bytes per parameter with one state: 12 read (the weight, the state, the
// gradient), 8 written, 2 more if there is a bf16 copy; 5 flops. A second state adds 8 bytes. LARS
// reads weights and gradients once more before that, clipping only the gradients.
#include <algorithm>
#include <bit>
#include <span>
#include <type_traits>

#include "core/cuda/runtime.h"
#include "core/cuda/upload.h"
#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/operations.h"
#include "layers/cuda/kernels/update_norms.h"
#include "layers/operations/norm_scales.h"

namespace convoy::cuda {
namespace {

constexpr int kWidth = 4;
// Parameters that a group of threads updates.
constexpr int32_t kChunk = 4096;
// Ranges of one launch; their places are arguments of the kernel.
constexpr int kMaxRanges = 512;

// Values of UpdateArenas::non_finite. What is found becomes kNonFinite after the launch, so that
// all of its parameters are updated or none, whichever group comes first.
constexpr int32_t kNonFinite = 1, kFoundNow = 2;

CONVOY_HOST_DEVICE inline bool IsFinite(float value) {
  constexpr uint32_t kExponent = 0x7F800000;
  return (std::bit_cast<uint32_t>(value) & kExponent) != kExponent;
}

// One launch: neighbouring ranges, and which chunk is the first of each.
struct Launch {
  int32_t first_range;
  int32_t range_count;
  int32_t chunks;
  int32_t first_chunks[kMaxRanges];
};

// kIsScaled: gradients and rates have factors that come from norms.
template <typename Rule, bool kIsScaled>
struct UpdateKernel {
  static constexpr int kStates = static_cast<int>(Rule::kStates.size());
  static_assert(kStates == 1 || kStates == 2);
  using Rates = typename Rule::Rates;

  float* w;
  const float* g;
  float* states[kStates];
  BFloat16* copy;  // null if there is none
  int32_t* non_finite;
  const DevicePlace* places;
  const Rates* rates;
  const DeviceScale* scales;
  Launch launch;

  CONVOY_DEVICE void operator()(int32_t chunk, Group& group) const {
    if (*non_finite == kNonFinite) return;
    const int32_t in_launch = RangeOf(launch.first_chunks, launch.range_count, chunk);
    const int32_t r = launch.first_range + in_launch;
    Rates own = rates[r];
    if (own.lr == 0) return;
    float scale = 1;
    if constexpr (kIsScaled) {
      own.lr *= scales[r].rate;
      scale = scales[r].gradient;
    }
    const int64_t first = int64_t{chunk - launch.first_chunks[in_launch]} * kChunk;
    const int64_t begin = places[r].update_begin + first;
    const int64_t state_begin = places[r].state_begin + first;
    const int64_t left = places[r].update_count - first;
    const auto count = static_cast<int32_t>(left < kChunk ? left : kChunk);
    const bool is_aligned = begin % kWidth == 0 && state_begin % kWidth == 0;
    bool is_finite = true;
    for (int32_t i = group.rank() * kWidth; i < count; i += group.size() * kWidth) {
      if (is_aligned && i + kWidth <= count) {
        is_finite &= Update<kWidth>(own, scale, begin + i, state_begin + i);
      } else {
        for (int k = 0; k < kWidth && i + k < count; ++k) {
          is_finite &= Update<1>(own, scale, begin + i + k, state_begin + i + k);
        }
      }
    }
    if (!is_finite) *non_finite = kFoundNow;
  }

  // Returns whether all was finite.
  template <int kCount>
  CONVOY_HOST_DEVICE bool Update(const Rates& own, float scale, int64_t at,
                                 int64_t state_at) const {
    float weights[kCount], gradients[kCount], held[kStates][kCount];
    LoadVector<kCount>(w + at, weights);
    LoadVector<kCount>(g + at, gradients);
    for (int s = 0; s < kStates; ++s) LoadVector<kCount>(states[s] + state_at, held[s]);
    bool is_finite = true;
    for (int k = 0; k < kCount; ++k) {
      if constexpr (kIsScaled) gradients[k] *= scale;
      if constexpr (kStates == 1) {
        Rule::Apply(own, gradients[k], weights[k], held[0][k]);
      } else {
        Rule::Apply(own, gradients[k], weights[k], held[0][k], held[1][k]);
      }
      is_finite &= IsFinite(gradients[k]) & IsFinite(weights[k]);
    }
    StoreVector<kCount>(weights, w + at);
    for (int s = 0; s < kStates; ++s) StoreVector<kCount>(held[s], states[s] + state_at);
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

double EtaOf(const UpdateRule& rule) {
  const auto* lars = std::get_if<LarsRule>(&rule);
  return lars != nullptr ? lars->eta : 0;
}

template <typename Rule>
class CudaUpdater final : public Updater {
 public:
  CudaUpdater(const UpdateArenas& arenas, const UpdateOptions& options, int device)
      : arenas_(arenas),
        options_(options),
        rule_(std::get<Rule>(options.rule)),
        places_(AllocateDevice(device, SizeFor<DevicePlace>())),
        rates_(AllocateDevice(device, SizeFor<Rates>())),
        uploader_(device) {
    CONVOY_CHECK(arenas.states.size() == Rule::kStates.size(), "{} states", arenas.states.size());
    for (const UpdateOptions::Bucket& bucket : options.buckets) {
      launches_.push_back(LaunchesOf(bucket));
    }
    std::vector<DevicePlace> places;
    std::vector<int32_t> first_rows;
    int64_t rows = 0;
    for (const UpdateRange& range : options.ranges) {
      const UpdateRange::Part part = range.Updated();
      places.push_back({.begin = range.begin,
                        .update_begin = part.begin,
                        .update_count = part.count,
                        .state_begin = part.state_begin,
                        .first_row = CheckedCount(range.first_row),
                        .row_elements = CheckedCount(range.count / range.rows),
                        .uncut_first_row = CheckedCount(range.uncut_first_row),
                        .uncut_rows = CheckedCount(range.uncut_rows),
                        .adapts = range.adapts ? 1 : 0});
      first_rows.push_back(CheckedCount(rows));
      rows += range.rows;
    }
    own_rows_ = CheckedCount(rows);
    const std::unique_ptr<Stream> stream = MakeStream(device);
    CopyAll(*stream, places, places_);
    if (NeedsNorms(options)) {
      first_rows_ = AllocateDevice(device, SizeFor<int32_t>());
      scales_ = AllocateDevice(device, SizeFor<DeviceScale>());
      clip_ = AllocateDevice(device, sizeof(double));
      table_ = AllocateDevice(device, 2 * options.table_rows * SizeOf(DType::kFloat64));
      CopyAll(*stream, first_rows, first_rows_);
    }
    stream->Synchronize();
  }

  void SetRates(Stream& stream, std::span<const ParameterRates> rates) override {
    CONVOY_CHECK(rates.size() == options_.ranges.size(), "{} rates", rates.size());
    CONVOY_CHECK(!IsRecording(stream), "rates are set before a step is recorded");
    std::vector<Rates> wanted;
    wanted.reserve(rates.size());
    for (const ParameterRates& given : rates) wanted.push_back(rule_.RatesOf(given));
    if (wanted == held_) return;
    held_ = std::move(wanted);
    CopyAll(stream, held_, rates_);
  }

  Tensor SumSquares(Stream& stream) override {
    const int64_t rows = options_.table_rows;
    SetZero(stream, table_.data(), table_.bytes());
    ForEachGroup(stream, own_rows_,
                 RowSquaresKernel<Rates, std::is_same_v<Rule, LarsRule>>{
                     .w = arenas_.parameters.template As<float>(),
                     .g = arenas_.gradients.template As<float>(),
                     .places = Data<DevicePlace>(places_),
                     .rates = Data<Rates>(rates_),
                     .first_rows = Data<int32_t>(first_rows_),
                     .range_count = CheckedCount(std::ssize(options_.ranges)),
                     .gradient_squares = Data<double>(table_),
                     .weight_squares = Data<double>(table_) + rows});
    return {table_.data(), DType::kFloat64, Shape{2, rows}};
  }

  void Scale(Stream& stream) override {
    const int32_t rows = CheckedCount(options_.table_rows);
    ForEachGroup(stream, 1,
                 ClipKernel{.gradient_squares = Data<double>(table_),
                            .rows = rows,
                            .most = options_.clip_norm,
                            .factor = Data<double>(clip_)});
    ForEachGroup(stream, std::ssize(options_.ranges),
                 ScaleKernel<Rates>{.gradient_squares = Data<double>(table_),
                                    .weight_squares = Data<double>(table_) + rows,
                                    .places = Data<DevicePlace>(places_),
                                    .rates = Data<Rates>(rates_),
                                    .clip = Data<double>(clip_),
                                    .eta = EtaOf(options_.rule),
                                    .scales = Data<DeviceScale>(scales_)});
  }

  void Run(Stream& stream, int bucket) override {
    const std::vector<Launch>& launches = launches_.at(static_cast<size_t>(bucket));
    for (const Launch& launch : launches) {
      if (scales_) {
        ForEachGroup(stream, launch.chunks, KernelOf<true>(launch));
      } else {
        ForEachGroup(stream, launch.chunks, KernelOf<false>(launch));
      }
    }
    if (launches.empty()) return;
    ForEach(stream, 1, SettleKernel{.non_finite = arenas_.non_finite.template As<int32_t>()});
  }

 private:
  using Rates = typename Rule::Rates;

  template <typename T>
  int64_t SizeFor() const {
    return std::max<int64_t>(1, std::ssize(options_.ranges)) * static_cast<int64_t>(sizeof(T));
  }
  template <typename T>
  static T* Data(const Buffer& buffer) {
    return static_cast<T*>(buffer.data());
  }
  template <typename T>
  void CopyAll(Stream& stream, const std::vector<T>& values, const Buffer& to) {
    if (values.empty()) return;
    uploader_.Copy(stream, values.data(), std::ssize(values) * static_cast<int64_t>(sizeof(T)),
                   to.data());
  }

  std::vector<Launch> LaunchesOf(const UpdateOptions::Bucket& bucket) const {
    std::vector<Launch> launches;
    for (int64_t first = 0; first < bucket.count; first += kMaxRanges) {
      Launch launch{};
      launch.first_range = CheckedCount(bucket.first + first);
      launch.range_count = CheckedCount(std::min<int64_t>(kMaxRanges, bucket.count - first));
      int64_t chunks = 0;
      for (int32_t i = 0; i < launch.range_count; ++i) {
        launch.first_chunks[i] = CheckedCount(chunks);
        const auto& range = options_.ranges[static_cast<size_t>(launch.first_range + i)];
        chunks += (range.Updated().count + kChunk - 1) / kChunk;
      }
      launch.chunks = CheckedCount(chunks);
      if (chunks > 0) launches.push_back(launch);
    }
    return launches;
  }

  template <bool kIsScaled>
  UpdateKernel<Rule, kIsScaled> KernelOf(const Launch& launch) const {
    const bool has_copy = arenas_.compute.data != arenas_.parameters.data;
    UpdateKernel<Rule, kIsScaled> kernel{};
    kernel.w = arenas_.parameters.template As<float>();
    kernel.g = arenas_.gradients.template As<float>();
    for (size_t s = 0; s < Rule::kStates.size(); ++s) {
      kernel.states[s] = arenas_.states[s].template As<float>();
    }
    kernel.copy = has_copy ? arenas_.compute.template As<BFloat16>() : nullptr;
    kernel.non_finite = arenas_.non_finite.template As<int32_t>();
    kernel.places = Data<DevicePlace>(places_);
    kernel.rates = Data<Rates>(rates_);
    kernel.scales = Data<DeviceScale>(scales_);
    kernel.launch = launch;
    return kernel;
  }

  UpdateArenas arenas_;
  UpdateOptions options_;
  Rule rule_;
  std::vector<std::vector<Launch>> launches_;  // per bucket
  int32_t own_rows_ = 0;
  Buffer places_, rates_;                      // on the device, like all that follow
  Buffer first_rows_, scales_, clip_, table_;  // if norms are needed
  std::vector<Rates> held_;                    // what rates_ holds
  Uploader uploader_;
};

}  // namespace

std::unique_ptr<Updater> MakeUpdater(const UpdateArenas& arenas, const UpdateOptions& options,
                                     int device) {
  return std::visit(
      [&]<typename Rule>(const Rule&) -> std::unique_ptr<Updater> {
        return std::make_unique<CudaUpdater<Rule>>(arenas, options, device);
      },
      options.rule);
}

}  // namespace convoy::cuda
