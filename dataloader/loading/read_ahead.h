// dataloader/loading/read_ahead.h - which batches the system is told about before they are read.
#pragma once

#include <cstdint>
#include <optional>

#include "dataloader/loader_report.h"

namespace convoy {

// Batches are counted over all epochs. Not thread-safe.
class ReadAhead {
 public:
  // Looks up to `bytes` bytes ahead of the batch that is being made; each batch holds
  // `batch_images` images.
  ReadAhead(int64_t bytes, int64_t batch_images, int threads);

  // Returns the next batch to announce while batch `current` is being filled: one at a time, so
  // that no thread is kept from its work. Nothing if enough batches are announced.
  std::optional<int64_t> Take(int64_t current, const LoaderStatistics& so_far);
  // Forgets what was announced, because the loader continues at another batch.
  void Restart() { next_ = 0; }

 private:
  int64_t BatchesAhead(const LoaderStatistics& so_far) const;

  int64_t bytes_, batch_images_;
  int threads_;
  int64_t next_ = 0;
};

}  // namespace convoy
