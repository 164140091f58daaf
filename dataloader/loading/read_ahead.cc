#include "dataloader/loading/read_ahead.h"

#include <algorithm>
#include <cmath>

namespace convoy {
namespace {

// It is of no use to look further ahead than the threads can decode in this time.
constexpr double kMostSeconds = 2;
// Bytes of an image, as long as none was read: ImageNet's mean.
constexpr double kUsualImageBytes = 110e3;

}  // namespace

ReadAhead::ReadAhead(int64_t bytes, int64_t batch_images, int threads)
    : bytes_(bytes), batch_images_(std::max<int64_t>(batch_images, 1)), threads_(threads) {}

std::optional<int64_t> ReadAhead::Take(int64_t current, const LoaderStatistics& so_far) {
  next_ = std::max(next_, current + 1);
  if (next_ > current + BatchesAhead(so_far)) return std::nullopt;
  return next_++;
}

int64_t ReadAhead::BatchesAhead(const LoaderStatistics& so_far) const {
  const auto bytes = static_cast<double>(bytes_);
  double images = bytes / kUsualImageBytes;
  if (so_far.images > 0 && so_far.bytes_read > 0 && so_far.work_s > 0) {
    const auto read = static_cast<double>(so_far.images);
    // The time of reading does not count: if reading is slow, that is a reason to look further
    // ahead.
    const double decoding_s = std::max(so_far.work_s - so_far.read_s, 1e-9);
    images = std::min(bytes * read / static_cast<double>(so_far.bytes_read),
                      kMostSeconds * threads_ * read / decoding_s);
  }
  // At least one batch, however large it is.
  return bytes_ > 0 ? static_cast<int64_t>(std::ceil(images / static_cast<double>(batch_images_)))
                    : 0;
}

}  // namespace convoy
