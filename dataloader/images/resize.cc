#include "dataloader/images/resize.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/device/memory.h"
#include "core/error.h"

namespace convoy {
namespace {

// Divide and round down, and up; divisor > 0.
int64_t FloorDivide(int64_t value, int64_t divisor) {
  const int64_t quotient = value / divisor;
  return value % divisor < 0 ? quotient - 1 : quotient;
}
int64_t CeilDivide(int64_t value, int64_t divisor) { return -FloorDivide(-value, divisor); }

}  // namespace

// Distances are counted in units of 1 / (2 resized) source pixels. The centre of output o is at (2o
// + 1) source, the centre of source pixel x at (2x + 1) resized. A weight is 2 max(source, resized)
// minus the distance between the two.
void AxisFilter::Build(int64_t source, int64_t resized, int64_t first, int count) {
  CONVOY_CHECK(source >= 1 && resized >= 1 && first >= 0 && count >= 1 && first + count <= resized,
               "outputs [{}, {}) of {} to {}", first, first + count, source, resized);
  const int64_t reach = 2 * std::max(source, resized);
  const auto centre = [&](int i) { return (2 * (first + i) + 1) * source; };
  const auto lower = [&](int i) {
    const int64_t bound = FloorDivide(centre(i) - reach, resized);  // 2x + 1 > bound
    return std::max<int64_t>(CeilDivide(bound, 2), 0);
  };
  const auto upper = [&](int i) {
    const int64_t bound = CeilDivide(centre(i) + reach, resized);  // 2x + 1 < bound
    return std::min(FloorDivide(bound, 2), source);
  };
  starts_.resize(static_cast<size_t>(count));
  is_copy_ = source == resized;
  if (is_copy_) {
    std::iota(starts_.begin(), starts_.end(), static_cast<int>(first));
    begin_ = starts_.front();
    end_ = begin_ + count;
    taps_ = 1;
    weights_.assign(static_cast<size_t>(count), kOne);
    return;
  }
  ends_.resize(starts_.size());
  taps_ = 0;
  for (int i = 0; i < count; ++i) {
    const int64_t start = lower(i), end = upper(i);
    starts_[static_cast<size_t>(i)] = static_cast<int>(start);
    ends_[static_cast<size_t>(i)] = static_cast<int>(end);
    taps_ = std::max(taps_, static_cast<int>(end - start));
  }
  begin_ = starts_.front();
  end_ = ends_.back();
  weights_.assign(static_cast<size_t>(count) * static_cast<size_t>(taps_), 0);
  for (int i = 0; i < count; ++i) {
    int& start = starts_[static_cast<size_t>(i)];
    const int64_t true_start = start, true_end = ends_[static_cast<size_t>(i)];
    start = std::min(start, end_ - taps_);
    int64_t total = 0;
    for (int64_t x = true_start; x < true_end; ++x) {
      total += reach - std::abs((2 * x + 1) * resized - centre(i));
    }
    // Rounding the running sums instead of the weights keeps the total at kOne.
    int64_t sum = 0, rounded = 0;
    int32_t* weights = weights_.data() + static_cast<size_t>(i) * static_cast<size_t>(taps_);
    for (int64_t x = true_start; x < true_end; ++x) {
      sum += reach - std::abs((2 * x + 1) * resized - centre(i));
      const int64_t next = (2 * sum * kOne + total) / (2 * total);
      weights[x - start] = static_cast<int32_t>(next - rounded);
      rounded = next;
    }
  }
}

void RowRing::Configure(int64_t row_bytes, int rows) {
  stride_ = RoundUp(row_bytes, kAlignmentBytes);
  rows_ = rows;
  const int64_t bytes = kOffset + stride_ * rows;
  if (memory_.bytes() < bytes) memory_ = AllocateHost(bytes);
}

void RowResampler::Start(const AxisFilter& horizontal, const AxisFilter& vertical, int first_column,
                         int pixel_bytes, int channels, uint8_t* out) {
  CONVOY_CHECK((pixel_bytes == 1 || pixel_bytes == 4) && (channels == 1 || channels == 3) &&
                   (pixel_bytes == 1 || channels == 3),
               "{} bytes a pixel to {} channels", pixel_bytes, channels);
  horizontal_ = &horizontal;
  vertical_ = &vertical;
  first_column_ = first_column;
  pixel_bytes_ = pixel_bytes;
  channels_ = channels;
  out_ = out;
  next_ = 0;
  columns_.Build(horizontal.starts(), horizontal.weights(0), horizontal.begin(), horizontal.taps(),
                 horizontal.count(), pixel_bytes);
  const int elements = (horizontal.end() - horizontal.begin()) * pixel_bytes;
  row_.resize(static_cast<size_t>(elements) + ColumnWeights::kSlack);
  rows_.resize(static_cast<size_t>(vertical.taps()));
}

void RowResampler::WriteRow(const RowRing& ring, uint8_t* out) {
  const int count = horizontal_->count(), start = vertical_->start(next_);
  const int skipped = (horizontal_->begin() - first_column_) * pixel_bytes_;
  if (horizontal_->is_copy() && vertical_->is_copy()) {
    const uint8_t* row = ring.Row(start) + skipped;
    if (pixel_bytes_ == 1) {
      std::memcpy(out, row, static_cast<size_t>(count));
      return;
    }
    // Copies four bytes at a time, the last of which the next pixel overwrites: one load and one
    // store per pixel.
    for (int i = 0; i + 1 < count; ++i) std::memcpy(out + 3 * i, row + 4 * i, 4);
    std::memcpy(out + 3 * (count - 1), row + 4 * (count - 1), 3);
    return;
  }
  const int elements = (horizontal_->end() - horizontal_->begin()) * pixel_bytes_;
  for (int tap = 0; tap < vertical_->taps(); ++tap) {
    rows_[static_cast<size_t>(tap)] = ring.Row(start + tap) + skipped;
  }
  WeighRows(rows_.data(), vertical_->weights(next_), vertical_->taps(), elements, row_.data());
  WeighColumns(columns_, row_.data(), out);
}

void RowResampler::Advance(const RowRing& ring, int available) {
  const int64_t row_bytes = int64_t{horizontal_->count()} * channels_;
  for (; !done() && vertical_->start(next_) + vertical_->taps() <= available; ++next_) {
    uint8_t* out = out_ + next_ * row_bytes;
    WriteRow(ring, out);
    if (pixel_bytes_ == 4 || channels_ == 1) continue;
    for (int i = horizontal_->count() - 1; i >= 0; --i) {
      const uint8_t grey = out[i];
      for (int c = 0; c < channels_; ++c) out[i * channels_ + c] = grey;
    }
  }
}

}  // namespace convoy
