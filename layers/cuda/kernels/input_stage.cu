// The formula of core/tensor/batch.h on the device. Bytes per value: 1 read, 2 or 4 written, and a
// mean image from the cache; 3 flops, and a few integer operations to find the pixel in a mirrored
// row.
#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>
#include <vector>

#include "core/cuda/runtime.h"
#include "layers/cuda/kernels/numbers.h"
#include "layers/cuda/kernels/operations.h"

namespace convoy::cuda {
namespace {

constexpr int kMaxChannels = 3;

// One number per channel, which stays in registers.
struct PerChannel {
  float values[kMaxChannels] = {};
  CONVOY_HOST_DEVICE float At(int32_t c) const {
    return c == 0 ? values[0] : c == 1 ? values[1] : values[2];
  }
};

// A thread per vector of x, wherever lines and rows end in it.
template <typename T, int kChannels>
struct FinishKernel {
  static constexpr int kWidth = kVectorWidth<T>;
  // As many pixel values as a vector has, loaded at once; the first in the lowest byte.
  using PixelWord = std::conditional_t<kWidth == 8, uint64_t, uint32_t>;

  const uint8_t* pixels;
  const SampleInfo* samples;
  const float* mean_image;  // null if there is none
  bool mean_is_aligned;     // every vector is whole in one row
  PerChannel means, factors;
  T* x;
  int32_t count, width;
  Divider crop, line;

  // Of the vector's first value.
  struct Place {
    int32_t row, in_crop, w, c;
  };

  CONVOY_HOST_DEVICE void operator()(int32_t i) const {
    const int32_t first = i * kWidth;
    Place place;
    place.row = crop.Split(first, &place.in_crop);
    int32_t in_line;
    line.Split(place.in_crop, &in_line);
    place.w = in_line / kChannels;
    place.c = in_line % kChannels;
    float values[kWidth] = {};
    if (mean_image != nullptr) LoadMeans(place.in_crop, values);
    if (in_line + kWidth <= line.divisor()) {
      FinishInLine(place, first, in_line, values);
      return StoreVector<kWidth>(values, x + first);
    }
    const int32_t valid = count - first < kWidth ? count - first : kWidth;
    Finish(place, first - in_line, valid, values);
    if (valid == kWidth) return StoreVector<kWidth>(values, x + first);
    for (int k = 0; k < valid; ++k) x[first + k] = FromFloat<T>(values[k]);
  }

  CONVOY_HOST_DEVICE void LoadMeans(int32_t in_crop, float* values) const {
    if (mean_is_aligned) return LoadVector<kWidth>(mean_image + in_crop, values);
    for (int k = 0; k < kWidth; ++k) {
      values[k] = mean_image[in_crop];
      if (++in_crop == crop.divisor()) in_crop = 0;
    }
  }

  // From the mean image's values to the finished ones, if all of them lie in one line: the
  // common case, without a test or a division per value.
  CONVOY_HOST_DEVICE void FinishInLine(const Place& place, int32_t first, int32_t in_line,
                                       float* values) const {
    float source[kWidth];
    if (samples[place.row].mirror != 0) {
      // Pixels in reverse, the channels of each as they are: where the first kChannels values lie,
      // and the others lie whole pixels before them.
      const uint8_t* pixel = pixels + (first - in_line) + (width - 1 - place.w) * kChannels;
      const uint8_t* from[kChannels];
      for (int k = 0; k < kChannels; ++k) {
        from[k] = pixel + place.c + k - (place.c + k < kChannels ? 0 : 2 * kChannels);
      }
      for (int k = 0; k < kWidth; ++k) {
        source[k] = static_cast<float>(from[k % kChannels][-(k / kChannels) * kChannels]);
      }
    } else {
      const auto word = *reinterpret_cast<const PixelWord*>(pixels + first);
      for (int k = 0; k < kWidth; ++k) {
        source[k] = static_cast<float>(static_cast<uint8_t>(word >> (8 * k)));
      }
    }
    // Of the channels from that of the first value on.
    const PerChannel all_offsets = OffsetsOf(place.row);
    float offsets[kChannels], scales[kChannels];
    for (int k = 0; k < kChannels; ++k) {
      const int32_t c = place.c + k - (place.c + k < kChannels ? 0 : kChannels);
      offsets[k] = all_offsets.At(c);
      scales[k] = factors.At(c);
    }
    for (int k = 0; k < kWidth; ++k) {
      values[k] = (source[k] - values[k] + offsets[k % kChannels]) * scales[k % kChannels];
    }
  }

  // The same wherever they lie. `line_begin`: of the line that `place` is in.
  CONVOY_HOST_DEVICE void Finish(Place place, int32_t line_begin, int32_t valid,
                                 float* values) const {
    PerChannel offsets = OffsetsOf(place.row);
    bool mirror = samples[place.row].mirror != 0;
    for (int k = 0; k < kWidth; ++k) {
      if (k >= valid) return;
      const int32_t w = mirror ? width - 1 - place.w : place.w;
      const uint8_t pixel = pixels[line_begin + w * kChannels + place.c];
      values[k] =
          (static_cast<float>(pixel) - values[k] + offsets.At(place.c)) * factors.At(place.c);
      if (++place.c < kChannels) continue;
      place.c = 0;
      if (++place.w < width) continue;
      place.w = 0;
      line_begin += line.divisor();
      const int32_t row = crop.Divide(line_begin);
      if (row == place.row || k + 1 >= valid) continue;
      place.row = row;
      offsets = OffsetsOf(row);
      mirror = samples[row].mirror != 0;
    }
  }

  CONVOY_HOST_DEVICE PerChannel OffsetsOf(int32_t row) const {
    PerChannel result;
    for (int c = 0; c < kChannels; ++c) {
      result.values[c] = samples[row].colour_shift[c] - means.values[c];
    }
    return result;
  }
};

struct UnpackKernel {
  const SampleInfo* samples;
  int32_t* labels;
  float* weights;
  int64_t* positions;

  CONVOY_HOST_DEVICE void operator()(int32_t n) const {
    labels[n] = samples[n].label;
    weights[n] = samples[n].weight;
    positions[n] = samples[n].position;
  }
};

class CudaInputStage final : public InputStage {
 public:
  CudaInputStage(const InputOptions& options, int device)
      : options_(options),
        shape_(options.crop.Prepend(options.batch)),
        sample_bytes_(options.batch * static_cast<int64_t>(sizeof(SampleInfo))),
        pinned_samples_(AllocatePinned(device, sample_bytes_)),
        copy_stream_(MakeStream(device)) {
    CheckedCount(shape_.count() + kVectorWidth<BFloat16>);
    const int64_t channels = options.crop.back();
    const auto means = std::ssize(options.mean),
               deviations = std::ssize(options.standard_deviation);
    const bool has_mean_image = means == options.crop.count() && means != channels;
    CONVOY_CHECK(means == 0 || means == channels || has_mean_image, "{} mean values for {}", means,
                 options.crop.ToString());
    CONVOY_CHECK(deviations == 0 || deviations == channels, "{} standard deviations for {}",
                 deviations, options.crop.ToString());
    CONVOY_CHECK(channels >= 1 && channels <= kMaxChannels, "{} channels", channels);
    if (has_mean_image) {
      const int64_t bytes = means * SizeOf(DType::kFloat32);
      mean_image_ = AllocateDevice(device, bytes);
      copy_stream_->Copy(mean_image_.data(), options_.mean.data(), bytes);
      copy_stream_->Synchronize();
    } else {
      std::copy(options.mean.begin(), options.mean.end(), channel_means_.values);
    }
    for (Slot& slot : slots_) {
      slot.pixels = AllocateDevice(device, shape_.count());
      slot.samples = AllocateDevice(device, sample_bytes_);
    }
    const auto allocate_rows = [&](DType dtype, Buffer& buffer) {
      buffer = AllocateDevice(device, options.batch * SizeOf(dtype));
      return ViewOf(buffer, dtype, Shape{options.batch});
    };
    rows_ = {.labels = allocate_rows(DType::kInt32, labels_),
             .weights = allocate_rows(DType::kFloat32, weights_),
             .positions = allocate_rows(DType::kInt64, positions_)};
  }

  // Copies may still read what others own.
  ~CudaInputStage() override {
    try {
      copy_stream_->Synchronize();
    } catch (const Error&) {
      // The device has failed; whoever waits for its work says so.
    }
  }

  void Prefetch(const Batch& batch) override {
    RequireFits(batch);
    copied_ = Copy(batch, slots_[next_slot_]);
    prefetched_pixels_ = batch.pixels.data();
  }

  void Load(Stream& stream, const Batch& batch, const Tensor& x) override {
    RequireFits(batch);
    CONVOY_CHECK(x.shape == shape_ && x.dtype == options_.dtype, "a batch of {} into {} {}",
                 shape_.ToString(), NameOf(x.dtype), x.shape.ToString());
    CONVOY_CHECK(!IsRecording(stream), "the load of a batch is never recorded");
    Slot& slot = slots_[next_slot_];
    next_slot_ = (next_slot_ + 1) % slots_.size();
    const bool is_there = copied_ && prefetched_pixels_ == batch.pixels.data();
    if (!is_there) {
      if (copied_) copied_->Synchronize();
      copied_ = Copy(batch, slot);
    }
    const std::unique_ptr<Event> copied = std::move(copied_);
    stream.WaitFor(*copied);
    ForType(x.dtype, [&](auto type) {
      using T = decltype(type);
      switch (options_.crop.back()) {
        case 1:
          return Finish<T, 1>(stream, slot, batch.colour_scale, x);
        case 2:
          return Finish<T, 2>(stream, slot, batch.colour_scale, x);
        default:
          return Finish<T, 3>(stream, slot, batch.colour_scale, x);
      }
    });
    ForEach(stream, options_.batch,
            UnpackKernel{.samples = static_cast<const SampleInfo*>(slot.samples.data()),
                         .labels = rows_.labels.As<int32_t>(),
                         .weights = rows_.weights.As<float>(),
                         .positions = rows_.positions.As<int64_t>()});
    slot.read = stream.Record();
    // The batch and the pinned samples are free from here on.
    copied->Synchronize();
  }

  RowInfo rows() const override { return rows_; }

 private:
  void RequireFits(const Batch& batch) const {
    CONVOY_CHECK(batch.shape == shape_ && std::ssize(batch.samples) == options_.batch,
                 "batch {} of {} samples, expected {} of {}", batch.shape.ToString(),
                 batch.samples.size(), options_.batch, options_.crop.ToString());
  }

  // The memory that a batch is copied to, while the one before is still read from the other.
  struct Slot {
    Buffer pixels, samples;
    std::unique_ptr<Event> read;  // by the last kernel that does
  };

  std::unique_ptr<Event> Copy(const Batch& batch, Slot& slot) {
    if (slot.read) copy_stream_->WaitFor(*slot.read);
    std::memcpy(pinned_samples_.data(), batch.samples.data(), static_cast<size_t>(sample_bytes_));
    copy_stream_->Copy(slot.samples.data(), pinned_samples_.data(), sample_bytes_);
    copy_stream_->Copy(slot.pixels.data(), batch.pixels.data(), shape_.count());
    return copy_stream_->Record();
  }

  template <typename T, int kChannels>
  void Finish(Stream& stream, const Slot& slot, float colour_scale, const Tensor& x) const {
    using Kernel = FinishKernel<T, kChannels>;
    const Shape& crop = options_.crop;
    PerChannel factors;
    for (int c = 0; c < kChannels; ++c) {
      const auto& deviations = options_.standard_deviation;
      factors.values[c] =
          colour_scale / (deviations.empty() ? 1 : deviations[static_cast<size_t>(c)]);
    }
    const int64_t count = shape_.count();
    ForEach(stream, (count + Kernel::kWidth - 1) / Kernel::kWidth,
            Kernel{.pixels = static_cast<const uint8_t*>(slot.pixels.data()),
                   .samples = static_cast<const SampleInfo*>(slot.samples.data()),
                   .mean_image = static_cast<const float*>(mean_image_.data()),
                   .mean_is_aligned = crop.count() % Kernel::kWidth == 0,
                   .means = channel_means_,
                   .factors = factors,
                   .x = x.As<T>(),
                   .count = static_cast<int32_t>(count),
                   .width = static_cast<int32_t>(crop[1]),
                   .crop = Divider(crop.count()),
                   .line = Divider(crop[1] * crop[2])});
  }

  InputOptions options_;
  Shape shape_;
  int64_t sample_bytes_;
  PerChannel channel_means_;
  Buffer mean_image_, pinned_samples_;
  std::array<Slot, 2> slots_;
  size_t next_slot_ = 0;
  std::unique_ptr<Event> copied_;  // of the prefetched batch into the next slot
  const void* prefetched_pixels_ = nullptr;
  Buffer labels_, weights_, positions_;
  RowInfo rows_;
  std::unique_ptr<Stream> copy_stream_;
};

}  // namespace

std::unique_ptr<InputStage> MakeInputStage(const InputOptions& options, int device) {
  return std::make_unique<CudaInputStage>(options, device);
}

}  // namespace convoy::cuda
