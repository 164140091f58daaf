// dataloader/loader_report.h - where a loader's time goes, and what limits it.
#pragma once

#include <cstdint>
#include <string>

namespace convoy {

// Where the loader's time went since it was made. Seconds are summed over threads.
struct LoaderStatistics {
  int64_t images = 0;
  int64_t bytes_read = 0;
  double read_s = 0, decode_s = 0, resize_s = 0;
  double augment_s = 0;                    // colour jitter
  double work_s = 0;                       // all of the above, and everything between them
  double wait_s = 0;                       // the consumer waiting in Next(): the loader is slower
  int64_t batches = 0, ready_batches = 0;  // given by Next(), and ready when it was called, summed
  int64_t bad_samples = 0;

  LoaderStatistics& operator+=(const LoaderStatistics& other);
  LoaderStatistics operator-(const LoaderStatistics& earlier) const;
};

// What statistics say about `elapsed_s` seconds of a loader with `threads` threads.
struct LoaderReport {
  double images_per_s = 0;
  double images_per_busy_thread = 0;  // per second of a thread that never waits
  double read_mb_per_s = 0;
  double ready_batches = 0;  // on average, when one was asked for
  // Milliseconds of a thread per image.
  double read_ms = 0, decode_ms = 0, resize_ms = 0, augment_ms = 0, other_ms = 0;
  double idle_share = 0;  // of the threads' time: they wait for the consumer
  double wait_share = 0;  // of the consumer's time: it waits for them
  // What limits the loader, and what more threads would give.
  std::string verdict;

  static LoaderReport Of(const LoaderStatistics& part, int threads, double elapsed_s);
};

}  // namespace convoy
